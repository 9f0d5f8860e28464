//! The one TLS implementation of the process.

/// Makes `ring` the TLS provider of every client and server of this process. Called first thing in `main`;
/// a second call changes nothing.
pub fn install_provider() {
    // An error means that a provider is installed already, which can only be ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
