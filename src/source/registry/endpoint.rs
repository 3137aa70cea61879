//! Which servers an image is asked of, and how each is spoken to.

use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

use super::Options;

/// Another place to ask: `HOST=URL`, or `URL` for all hosts without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry that it mirrors; `None` for any.
    pub of: Option<String>,
    /// Its address, with `http://` or `https://`.
    pub url: String,
}

impl FromStr for Mirror {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (of, url) = match text.split_once('=') {
            Some((of, url)) if !of.contains("://") => (Some(of), url),
            _ => (None, text),
        };
        let known = url.starts_with("http://") || url.starts_with("https://");
        let parsed = reqwest::Url::parse(url).ok().filter(|url| known && url.has_host());
        ensure!(
            parsed.is_some() && of != Some(""),
            "expected a mirror like docker.io=http://127.0.0.1:5000, got `{text}`"
        );
        Ok(Self { of: of.map(Into::into), url: url.trim_end_matches('/').into() })
    }
}

/// A server that speaks the distribution protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host with port, as credentials and certificates name it.
    pub(super) host: String,
    /// Address that `/v2/` is appended to.
    pub(super) base: String,
}

/// Returns the mirrors of a registry and the registry itself.
pub(super) fn endpoints(domain: &str, options: &Options) -> (Vec<Endpoint>, Endpoint) {
    let own = |mirror: &&Mirror| mirror.of.as_deref() == Some(domain);
    let mut mirrors: Vec<&Mirror> = options.mirrors.iter().filter(own).collect();
    if mirrors.is_empty() {
        mirrors = options.mirrors.iter().filter(|mirror| mirror.of.is_none()).collect();
    }
    let mirrors = mirrors.into_iter().map(|mirror| Endpoint {
        host: host_of(&mirror.url).unwrap_or_default(),
        base: mirror.url.clone(),
    });
    // Docker Hub's registry answers under its former name.
    let api = if domain == "docker.io" { "index.docker.io" } else { domain };
    let has_authority = options.certificates.join(domain).is_dir();
    let plain = options.insecure.iter().any(|host| host == domain)
        || (is_loopback(domain) && !has_authority);
    let scheme = if plain { "http" } else { "https" };
    (mirrors.collect(), Endpoint { host: domain.into(), base: format!("{scheme}://{api}") })
}

/// Returns the host of an address, with its port if it has one.
pub(super) fn host_of(url: &str) -> Result<String> {
    let url = reqwest::Url::parse(url).with_context(|| format!("reading the address {url}"))?;
    let host = url.host_str().with_context(|| format!("expected a host in {url}"))?;
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// Says whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_mirrors_first_and_speaks_plainly_to_loopback() {
        let mut options = Options { certificates: "/nonexistent".into(), ..Options::default() };
        options.mirrors = ["docker.io=http://127.0.0.1:5000/", "http://10.0.0.1/all"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        options.insecure = vec!["r.test:80".into()];
        for (domain, mirror, base) in [
            ("docker.io", "http://127.0.0.1:5000", "https://index.docker.io"),
            ("r.test", "http://10.0.0.1/all", "https://r.test"),
            ("r.test:80", "http://10.0.0.1/all", "http://r.test:80"),
            ("localhost:5000", "http://10.0.0.1/all", "http://localhost:5000"),
            ("[::1]:5000", "http://10.0.0.1/all", "http://[::1]:5000"),
        ] {
            let (mirrors, origin) = endpoints(domain, &options);
            assert_eq!((mirrors[0].base.as_str(), origin.base.as_str()), (mirror, base));
        }
        for bad in ["", "docker.io=", "=http://x", "docker.io=ftp://x", "127.0.0.1:5000"] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }
}
