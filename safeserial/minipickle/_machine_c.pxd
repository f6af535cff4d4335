include "machine.pxd"
