include "tags.pxd"
