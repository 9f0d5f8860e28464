//! The library and the program against a coordinator in this process, over real gRPC on a free port.

mod coordinator;
mod library;
mod pages;
mod program;
