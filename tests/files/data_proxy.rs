//! Which proxy an address is fetched through.

use fishmask::data::proxy::choose;

/// The port of the proxy for an address, in this environment of `NAME=VALUE`.
fn port(url: &str, environment: &str) -> Option<u16> {
    let variables: Vec<_> = environment.split(';').filter_map(|pair| pair.split_once('=')).collect();
    let var = |name: &str| Some(variables.iter().find(|(key, _)| *key == name)?.1.to_string());
    let proxy = choose(url, var).unwrap()?;
    (!proxy.is_no_proxy(&url.parse().unwrap())).then(|| proxy.port())
}

#[test]
fn the_scheme_s_variable_comes_before_that_for_all() {
    let all = "https_proxy=http://p:1;HTTPS_PROXY=http://p:2;http_proxy=http://p:3;ALL_PROXY=http://p:4";
    assert_eq!(port("https://a.org/x", all), Some(1));
    assert_eq!(port("http://a.org/x", all), Some(3));
    assert_eq!(port("https://a.org/x", "HTTPS_PROXY=http://p:2;all_proxy=http://p:4"), Some(2));
    assert_eq!(port("https://a.org/x", "http_proxy=http://p:3;ALL_PROXY=http://p:4"), Some(4));
    assert_eq!(port("https://a.org/x", "https_proxy=;ALL_PROXY=socks5h://p:5"), Some(5));
    assert_eq!(port("https://a.org/x", "https_proxy=p:6"), Some(6));
    assert_eq!(port("https://a.org/x", "http_proxy=http://p:3"), None);
    assert_eq!(port("https://a.org/x", ""), None);
}

/// The cases of curl's own test of its list (`tests/unit/unit1614.c`) that an address can have, and more.
#[test]
fn the_list_of_hosts_without_a_proxy_follows_curl() {
    for (list, host, without) in [
        ("toronto.edu", "www.cs.toronto.edu", true),
        (".toronto.edu", "www.cs.toronto.edu", true),
        (".toronto.edu", "toronto.edu", true),
        ("toronto.edu.", "toronto.edu", true),
        ("*.toronto.edu", "www.toronto.edu", true),
        ("toronto.edu", "nottoronto.edu", false),
        ("www.toronto.edu", "toronto.edu", false),
        ("TORONTO.edu", "www.toronto.EDU", true),
        ("a.org, toronto.edu", "www.toronto.edu", true),
        ("a.org toronto.edu", "www.toronto.edu", true),
        ("a.org,,", "b.org", false),
        ("*", "anything.org", true),
        ("192.168.0.1", "192.168.0.1", true),
        ("192.168.0.1", "192.168.0.10", false),
        ("192.168.0.0/16", "192.168.7.1", true),
        ("192.168.0.0/24", "192.168.7.1", false),
        ("0.0.0.0/0", "192.168.7.1", true),
        ("::1", "[::1]", true),
        ("[::1]", "[::1]", true),
        ("0:0:0:0:0:0:0:1", "[::1]", true),
        ("fe80::/10", "[fe81::2]", true),
        ("fe80::/10", "[::1]", false),
        ("10.0.0.0/8", "a.org", false),
        ("", "a.org", false),
    ] {
        let environment = format!("https_proxy=http://user:word@p:1;no_proxy={list}");
        let through = port(&format!("https://{host}/x"), &environment);
        assert_eq!(through.is_none(), without, "{list:?} {host}");
        let environment = environment.replace("no_proxy", "NO_PROXY");
        assert_eq!(port(&format!("https://{host}:444/x"), &environment), through);
    }
}

#[test]
fn user_and_password_are_handed_on() {
    let var = |name: &str| (name == "HTTPS_PROXY").then(|| "http://us%40er:p%3Aw@p:1".to_string());
    let proxy = choose("https://a.org", var).unwrap().unwrap();
    assert_eq!((proxy.username(), proxy.password()), (Some("us@er"), Some("p:w")));
}

#[test]
fn addresses_that_are_none() {
    let message = |url: &str, proxy: &str| {
        let var = |name: &str| (name == "https_proxy").then(|| proxy.to_string());
        choose(url, var).unwrap_err().to_string()
    };
    assert!(message("https://a.org", "ftp://p:1").starts_with("https_proxy: not the address of a proxy"));
    for url in ["a.org/x", "ftp://a.org/x", "not an address", ""] {
        let message = message(url, "http://p:1");
        assert!(message.starts_with(&format!("{url}: not an address")), "{message}");
    }
}
