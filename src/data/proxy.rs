//! The proxy for an address, by the environment variables that curl reads.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use super::error::Error;

/// The proxy for an address, if there is one; it knows the hosts that are reached without it. `var` gives
/// environment variables.
///
/// The first that is set counts of `https_proxy` and `all_proxy`, or for an address of plain HTTP
/// `http_proxy` and `all_proxy`, each in small letters or else in capitals. `no_proxy` is a list with commas:
/// a name stands for that host and all below it, with a dot before it or without; an IP address for itself,
/// one with `/bits` for its network; `*` for all hosts.
///
/// # Errors
/// [`Error::Network`] for an address that is none, and for a proxy's.
pub fn choose(url: &str, var: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Error> {
    let invalid = |name: &str, problem: String| Error::Network { name: name.into(), problem };
    let uri: Uri = url.parse().map_err(|error| invalid(url, format!("not an address: {error}")))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    let Some(host) = uri.host().filter(|_| ["http", "https"].contains(&scheme)) else {
        return Err(invalid(url, "not an address that begins with http:// or https://".into()));
    };
    let either = |name: &str| {
        let names = [name.to_string(), name.to_uppercase()];
        names.into_iter().find_map(|name| Some((var(&name).filter(|value| !value.is_empty())?, name)))
    };
    let Some((address, name)) = either(&format!("{scheme}_proxy")).or_else(|| either("all_proxy")) else {
        return Ok(None);
    };
    let refused = |error: ureq::Error| invalid(&name, format!("not the address of a proxy: {error}"));
    let plain = Proxy::new(&address).map_err(refused)?;
    let mut proxy = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(user) = plain.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = plain.password() {
        proxy = proxy.password(password);
    }
    let (without, _) = either("no_proxy").unwrap_or_default();
    for entry in without.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()) {
        // The client takes names literally, and those with a dot for all below it.
        proxy = match within(host, entry) {
            Some(true) => proxy.no_proxy(host),
            Some(false) => proxy,
            None if entry == "*" => proxy.no_proxy("*"),
            None => {
                let name = entry.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
                proxy.no_proxy(name).no_proxy(&format!(".{name}"))
            }
        };
    }
    proxy.build().map(Some).map_err(refused)
}

/// Whether a host is the IP address of an entry, or in its network; none where the entry is no IP address.
fn within(host: &str, entry: &str) -> Option<bool> {
    let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => (network, Some(bits.parse::<u32>().ok()?)),
        None => (entry, None),
    };
    let (host, network, width) = match (address(host), address(network)?) {
        (Some(IpAddr::V4(host)), IpAddr::V4(network)) => {
            (u128::from(host.to_bits()), u128::from(network.to_bits()), 32)
        }
        (Some(IpAddr::V6(host)), IpAddr::V6(network)) => (host.to_bits(), network.to_bits(), 128),
        _ => return Some(false),
    };
    let shift = width - bits.unwrap_or(width).min(width);
    let prefix = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
    Some(prefix(host) == prefix(network))
}
