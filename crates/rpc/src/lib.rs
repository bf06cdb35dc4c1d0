//! Internal gRPC: generated code from proto/, peer-api to protobuf and back.
