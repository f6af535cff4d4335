include "header.pxd"
