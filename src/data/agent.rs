//! The client for HTTP: its patience, the certificates that it trusts, its proxy.

use std::env;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::error::Error;
use super::proxy;

/// A client for one address, by the environment's proxies and certificates.
///
/// # Errors
/// [`Error::Network`].
pub(super) fn agent(url: &str) -> Result<ureq::Agent, Error> {
    let proxy = proxy::choose(url, |name| env::var(name).ok())?;
    let tls = TlsConfig::builder().root_certs(roots()?).build();
    let seconds = |n| Some(Duration::from_secs(n));
    // A machine without a network must find out soon; a slow one must be able to finish, so there is no limit
    // on the whole. Bytes are wanted as they are stored, not compressed once more.
    let config = ureq::Agent::config_builder()
        .timeout_resolve(seconds(10))
        .timeout_connect(seconds(10))
        .timeout_recv_response(seconds(30))
        .timeout_per_read(seconds(30))
        .http_status_as_error(false)
        .accept_encoding("identity")
        .proxy(proxy)
        .tls_config(tls);
    Ok(config.build().new_agent())
}

/// The certificates of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the system's; on a system that has none,
/// Mozilla's, which come with the program.
fn roots() -> Result<RootCerts, Error> {
    let found = rustls_native_certs::load_native_certs();
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| env::var_os(name).is_some());
    match named {
        _ if !found.certs.is_empty() => {
            Ok(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).into())
        }
        None => Ok(RootCerts::WebPki),
        Some(name) => {
            let value = env::var_os(name).unwrap_or_default();
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            let problem = format!("no certificates in {}{why}", value.display());
            Err(Error::Network { name: name.into(), problem })
        }
    }
}
