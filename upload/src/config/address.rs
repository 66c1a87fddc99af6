//! Addresses of servers and proxies.

use super::input::shorten;

/// Checks the address of a server, which has a host and no credentials, query or fragment.
///
/// # Errors
/// What to give instead.
pub fn check_url(text: &str) -> Result<(), String> {
    let example = || "give an address such as \"https://profiles.example:7070\"".to_owned();
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        let is_host = !text.is_empty() && !text.contains([' ', '@', '/']);
        return Err(match is_host {
            true => {
                format!("begin it with http:// or https://, as in \"http://{}\"", shorten(text))
            }
            false => example(),
        });
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("remove the credentials and set basic_auth, whose password is in a file".into());
    }
    let is_uri =
        text.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    if !is_uri || text.contains(['?', '#']) { Err(example()) } else { Ok(()) }
}

/// Checks the address of a proxy.
///
/// # Errors
/// What to give instead.
pub(super) fn check_proxy(text: &str) -> Result<(), String> {
    if text.contains('@') {
        return Err(
            "remove the credentials, and set a proxy with a password by $HTTPS_PROXY".into()
        );
    }
    let host = text.strip_prefix("http://").unwrap_or_default();
    if host.is_empty() || text.contains([' ', '?', '#']) {
        return Err("give an address such as \"http://proxy.example:3128\"".to_owned());
    }
    Ok(())
}

/// Removes user, password and query from a text that should be an address.
pub(super) fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}
