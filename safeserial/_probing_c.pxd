include "probing.pxd"
