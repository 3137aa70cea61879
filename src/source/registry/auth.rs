//! Authentication: a challenge is answered with a token or with a password.
//!
//! Follows RFC 9110, section 11.6.1, for challenges, and the Distribution
//! project's "Token Authentication" and "OAuth2 Token Authentication".

use std::sync::PoisonError;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

use super::Registry;
use super::endpoint::{Endpoint, host_of, is_loopback};
use super::http::Answer;
use super::retry::{Failure, Tries};
use crate::error::WithHint;
use crate::oci::ImageRef;
use crate::source::credentials::Login;

/// The largest token answer that is read, in bytes.
const TOKEN_MAX: u64 = 1 << 20;

impl Registry {
    /// Does something until it is done or not worth another attempt.
    pub(super) fn retry<T>(&self, what: &str, work: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut tries = Tries::new(self.options.attempts, self.options.backoff);
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    tries.wait(failure, &|text| self.progress.note(&format!("{what}: {text}")))?;
                }
            }
        }
    }

    /// Sends a request with what the server wants to see, and returns its
    /// answer if that is success.
    pub(super) fn authorized(
        &self,
        endpoint: &Endpoint,
        image: &ImageRef,
        make: &dyn Fn(&Client) -> RequestBuilder,
    ) -> Result<Answer<'_>, Failure> {
        let key = (endpoint.base.clone(), image.path.clone());
        let known = self.headers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let send = |header: &Option<String>| {
            self.http.send(&endpoint.host, &|client| match header {
                Some(header) => make(client).header("Authorization", header),
                None => make(client),
            })
        };
        let mut answer = send(&known)?;
        if answer.status().as_u16() == 401 {
            let challenges = answer.headers("www-authenticate");
            if let Some(header) = self.answer(endpoint, image, &challenges)? {
                answer = send(&Some(header.clone()))?;
                if answer.status().is_success() {
                    let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
                    headers.insert(key, header);
                }
            }
        }
        answer.success(&image.to_string(), &endpoint.host)
    }

    /// Returns the header that answers a challenge, if we know one.
    fn answer(
        &self,
        endpoint: &Endpoint,
        image: &ImageRef,
        challenges: &[String],
    ) -> Result<Option<String>, Failure> {
        let login = self.credentials.of(&endpoint.host)?;
        let parsed: Vec<Challenge> = challenges.iter().filter_map(|text| parse(text)).collect();
        if let Some(bearer) = parsed.iter().find(|c| c.scheme == "bearer") {
            return self.token(endpoint, image, bearer, login.as_ref()).map(Some);
        }
        let basic = parsed.iter().any(|c| c.scheme == "basic");
        Ok(match login {
            Some(Login::Password { user, password }) if basic => {
                let pair = STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {pair}"))
            }
            _ => None,
        })
    }

    fn token(
        &self,
        endpoint: &Endpoint,
        image: &ImageRef,
        challenge: &Challenge,
        login: Option<&Login>,
    ) -> Result<String, Failure> {
        let realm = challenge.get("realm").context("expected a realm in the challenge")?;
        let mut url = Url::parse(realm).with_context(|| format!("reading the realm {realm}"))?;
        let host = host_of(realm)?;
        // Whoever can change a plain answer must not be sent a password.
        let safe =
            url.scheme() == "https" || endpoint.base.starts_with("http:") || is_loopback(&host);
        if !safe {
            return Err(anyhow!("{}: expected an https realm, got {realm}", endpoint.host).into());
        }
        let scope = format!("repository:{}:pull", image.path);
        let mut fields = vec![("scope", scope.as_str())];
        fields.extend(challenge.get("service").map(|service| ("service", service)));
        let answer = if let Some(Login::Identity(token)) = login {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", "moby"),
            ]);
            let mut form = url.clone();
            form.set_query(None);
            form.query_pairs_mut().extend_pairs(&fields);
            let body = form.query().unwrap_or_default().to_owned();
            let kind = "application/x-www-form-urlencoded";
            self.http.send(&host, &|client| {
                client.post(url.clone()).header("Content-Type", kind).body(body.clone())
            })?
        } else {
            url.query_pairs_mut().extend_pairs(&fields);
            self.http.send(&host, &|client| match login {
                Some(Login::Password { user, password }) => {
                    client.get(url.clone()).basic_auth(user, Some(password))
                }
                _ => client.get(url.clone()),
            })?
        };
        let body = answer.success(&image.to_string(), &endpoint.host)?.whole(TOKEN_MAX)?;
        Ok(read_token(&body)
            .with_context(|| format!("reading the token of {host}"))
            .hint(|| format!("log in with `docker login {}`", endpoint.host))?)
    }
}

fn read_token(body: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let found: Token = serde_json::from_slice(body)?;
    let token = found.token.or(found.access_token).context("expected a token, got none")?;
    let plain = token.bytes().all(|b| b.is_ascii_graphic());
    ensure!(plain, "expected a token of printable characters");
    Ok(format!("Bearer {token}"))
}

/// What a server wants to see.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    fields: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads `Scheme key="value", key=value`.
fn parse(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let mut fields = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.push((key, value.trim().to_owned()));
        rest = after;
    }
    Some(Challenge { scheme: scheme.to_ascii_lowercase(), fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let bearer =
            r#"Bearer realm="https://a.test/t",service="r",scope="repository:a/b:pull,push""#;
        let bearer = parse(bearer).unwrap();
        assert_eq!(bearer.get("realm"), Some("https://a.test/t"));
        assert_eq!(bearer.get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(parse("Basic realm=x, charset=UTF-8").unwrap().get("charset"), Some("UTF-8"));
        assert_eq!(parse("BASIC").unwrap().scheme, "basic");
        assert_eq!(parse(r#"Bearer realm="cut"#), None);
        assert!(read_token(br#"{"access_token":"x"}"#).is_ok());
        for bad in ["", "{}", r#"{"token":"a\nb"}"#] {
            assert!(read_token(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
