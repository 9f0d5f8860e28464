//! The one TLS implementation of the process: what doors present ([`server`]) and how they take connections ([`door`]),
//! how this program dials others ([`dial`]), and the files both come from ([`files`]).
//!
//! Everything is read from files, and taken anew when they change: certificates are renewed without a restart. A private
//! key is in memory only as long as a library needs it, and in no error.

mod dial;
mod door;
mod files;
mod server;
#[cfg(test)]
mod tests;

pub use dial::{Dial, WrittenDial, reasons};
pub use door::{Connection, Door, Peer};
pub use files::TlsError;
pub use server::{Handshakes, ServerFiles, ServerTls};

/// Makes `ring` the TLS provider of every client and server of this process. Called first thing in `main`;
/// a second call changes nothing.
pub fn install_provider() {
    // An error means that a provider is installed already, which can only be ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
