include "plain.pxd"
