//! Passwords, tokens, credential helpers.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use base64::Engine as _;

use super::*;

/// `user` with the password `secret`, as `htpasswd -B` has it.
const HTPASSWD: &str = "user:$2y$04$ezSfqnC1NNZN3tRf1Jk3IesHiJHUig6lm8xlHeODnZuTxKtGUZs9q\n";

fn basic(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

/// Serves what the bench has to those who log in.
fn locked(bench: &Bench) -> Server {
    let file = bench.dir.path().join("htpasswd");
    std::fs::write(&file, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
    Server::start_with(bench.dir.path(), "", &auth).unwrap()
}

#[test]
fn a_password_opens_a_registry() {
    let Some(bench) = Bench::new() else { return };
    let server = locked(&bench);
    let config = bench.dir.path().join("config.json");
    let image = format!("{}/t/app:1", server.address);
    let right = basic("user", "secret");
    for (number, (auth, told)) in
        [(None, "401"), (Some(basic("user", "wrong")), "401"), (Some(right), "")]
            .into_iter()
            .enumerate()
    {
        let auths = auth.map(|auth| format!(r#""{}":{{"auth":"{auth}"}}"#, server.address));
        let auths = auths.unwrap_or_default();
        std::fs::write(&config, format!(r#"{{"auths":{{{auths}}}}}"#)).unwrap();
        let store = bench.store(&number.to_string());
        let options = Options { docker_config: Some(config.clone()), ..bench.options() };
        match pull(&store, options, &image).1 {
            Ok(_) => assert_eq!(told, ""),
            Err(error) => {
                let text = text(&error, &[&server.address]);
                assert!(told == "401" && text.contains(told), "{text}");
                assert!(text.contains("docker login HOST") && !text.contains("wrong"), "{text}");
            }
        }
        assert_sound(&store);
    }
}

#[test]
fn a_credential_helper_is_asked() {
    let Some(bench) = Bench::new() else { return };
    let server = locked(&bench);
    let bin = bench.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get {}' ] || exit 9\n\
         echo '{{\"Username\":\"user\",\"Secret\":\"secret\"}}'\n",
        server.address
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = bench.dir.path().join("config.json");
    std::fs::write(&config, r#"{"credsStore":"test"}"#).unwrap();
    let options = Options {
        docker_config: Some(config),
        helper_path: Some(format!("/nonexistent:{}", bin.display())),
        ..bench.options()
    };
    pull(&bench.store("cache"), options, &format!("{}/t/app:1", server.address)).1.unwrap();
}

/// Lets in who shows a token, and gives one to who may have it. The first
/// token is good for two requests only.
fn guarded(bench: &Bench) -> Proxy {
    let password = format!("Basic {}", basic("user", "secret"));
    let served = AtomicUsize::new(0);
    Proxy::start(&bench.server.address, move |request, _| {
        let given = request.authorization.as_deref().unwrap_or_default();
        if request.line.contains(" /token") {
            let identity = "refresh_token=identity";
            if given != password && !request.body.contains(identity) {
                return Fault::status(401);
            }
            let number = if served.load(Relaxed) == 0 { 1 } else { 2 };
            return Fault::Answer(200, String::new(), format!(r#"{{"token":"t{number}"}}"#));
        }
        let fine = match given {
            "Bearer t1" => served.fetch_add(1, Relaxed) < 2,
            other => other == "Bearer t2",
        };
        if fine {
            return Fault::None;
        }
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"test\"\r\n",
            request.host
        );
        Fault::Answer(401, challenge, String::new())
    })
}

#[test]
fn a_token_is_fetched_and_fetched_again_when_it_is_spent() {
    let Some(bench) = Bench::new() else { return };
    let config = bench.dir.path().join("config.json");
    let password = format!(r#"{{"auth":"{}"}}"#, basic("user", "secret"));
    for (number, (login, how)) in
        [(password.as_str(), "GET"), (r#"{"identitytoken":"identity"}"#, "POST")]
            .into_iter()
            .enumerate()
    {
        let proxy = guarded(&bench);
        let text = format!(r#"{{"auths":{{"{}":{login}}}}}"#, proxy.address);
        std::fs::write(&config, text).unwrap();
        let options = Options { docker_config: Some(config.clone()), ..bench.options() };
        let store = bench.store(&number.to_string());
        let (_, found) = pull(&store, options, &format!("{}/t/app:1", proxy.address));
        found.unwrap();
        let seen = proxy.seen();
        let tokens: Vec<&Request> = seen.iter().filter(|r| r.line.contains("/token")).collect();
        assert!(tokens.len() >= 2, "{seen:?}");
        for token in tokens {
            let asked = format!("{} {}", token.line, token.body);
            assert!(asked.starts_with(how), "{asked}");
            for part in ["service=test", "scope=repository%3At%2Fapp%3Apull"] {
                assert!(asked.contains(part), "{asked}");
            }
        }
        // Whoever hands out blobs never sees the password.
        let seen = seen.iter().filter(|r| !r.line.contains("/token"));
        let shown: Vec<_> = seen.filter_map(|r| r.authorization.as_deref()).collect();
        assert!(shown.iter().all(|shown| shown.starts_with("Bearer t")), "{shown:?}");
        assert_sound(&store);
    }
}

#[test]
fn a_refused_token_is_told() {
    let Some(bench) = Bench::new() else { return };
    let proxy = guarded(&bench);
    let image = format!("{}/t/app:1", proxy.address);
    let error = pull(&bench.store("cache"), bench.options(), &image).1.unwrap_err();
    let text = text(&error, &[&proxy.address]);
    assert!(text.contains("HOST answered 401") && text.contains("docker login HOST"), "{text}");
}

#[test]
fn a_password_does_not_go_to_a_plain_stranger() {
    let Some(bench) = Bench::new() else { return };
    let challenge = "WWW-Authenticate: Bearer realm=\"http://192.0.2.1/token\"\r\n";
    let proxy = Proxy::start(&bench.server.address, move |_, _| {
        Fault::Answer(401, challenge.into(), String::new())
    });
    // As if it were spoken to by TLS.
    let endpoint =
        Endpoint { host: proxy.address.clone(), base: format!("https://{}", proxy.address) };
    let options = bench.options();
    let http = Arc::new(Http::new(&options).unwrap());
    let registry = Registry::new(bench.store("cache"), Arc::new(Heard::default()), http, options);
    let image: ImageRef = format!("{}/t/app:1", proxy.address).parse().unwrap();
    let plain = format!("http://{}/v2/", proxy.address);
    let refused = registry.authorized(&endpoint, &image, &|client| client.get(&plain));
    let Err(crate::source::registry::retry::Failure::Final(error)) = refused else {
        panic!("expected a refusal")
    };
    assert!(format!("{error:#}").contains("expected an https realm"), "{error:#}");
}
