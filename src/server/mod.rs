//! gRPC: one file per RPC, wire conversion, errors, lifecycle.
