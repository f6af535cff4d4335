include "counts.pxd"
