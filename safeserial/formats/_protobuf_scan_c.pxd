include "protobuf_scan.pxd"
