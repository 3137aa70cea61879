//! A server between a client and a registry that gets things wrong: it hands
//! on what is asked and answered, but where a test has it do otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::registry::header;

/// What becomes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is handed on.
    None,
    /// Another one with this status, these header lines and this body.
    Answer(u16, String, String),
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// The body is shorter, and says so.
    Short(usize),
    /// The body is longer, and says so.
    Longer,
    /// A byte of the body is another.
    Damage,
    /// Nothing more comes after so many bytes of the body.
    Stall(usize),
    /// The registry does not hear which range is wanted.
    Whole,
}

impl Fault {
    /// An answer with nothing but a status.
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, String::new(), String::new())
    }
}

/// A request, as much as tests look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// The host asked, which is the proxy itself.
    pub(crate) host: String,
    /// The range asked for.
    pub(crate) range: Option<String>,
    /// What the client shows to be let in.
    pub(crate) authorization: Option<String>,
    /// The body, of a form that is sent.
    pub(crate) body: String,
}

type Handler = dyn Fn(&Request, usize) -> Fault + Send + Sync;

/// A proxy in front of a registry. Its threads end with the test's process.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Host and port.
    pub(crate) address: String,
    /// Hears when an answer stalls.
    pub(crate) stalled: Receiver<()>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Proxy {
    /// Stands before `upstream`. `faults` decides by the request and by how
    /// many of the same line came before it.
    pub(crate) fn start(
        upstream: &str,
        faults: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (tell, stalled) = channel();
        let (faults, upstream): (Arc<Handler>, _) = (Arc::new(faults), upstream.to_owned());
        let list = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (list, faults, tell) = (Arc::clone(&list), Arc::clone(&faults), tell.clone());
                let upstream = upstream.clone();
                thread::spawn(move || {
                    let stream = stream.expect("a connection");
                    let Some((request, head)) = receive(&stream) else { return };
                    let nth = {
                        let mut list = list.lock().expect("a whole list");
                        let same = |other: &&Request| other.line == request.line;
                        let nth = list.iter().filter(same).count();
                        list.push(request.clone());
                        nth
                    };
                    // A client that goes away is what some tests are about.
                    let _ = serve(&stream, &upstream, &head, &faults(&request, nth), &tell);
                });
            }
        });
        Self { address, stalled, seen }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("a whole list").clone()
    }
}

fn receive(stream: &TcpStream) -> Option<(Request, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let len = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let own = |name| header(&head, name).map(str::to_owned);
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let request = Request {
        line,
        host: own("host").unwrap_or_default(),
        range: own("range"),
        authorization: own("authorization"),
        body: String::from_utf8(body).ok()?,
    };
    Some((request, head))
}

fn serve(
    mut stream: &TcpStream,
    upstream: &str,
    head: &str,
    fault: &Fault,
    tell: &std::sync::mpsc::Sender<()>,
) -> std::io::Result<()> {
    if let Fault::Answer(status, headers, body) = fault {
        let len = body.len();
        return write!(
            stream,
            "HTTP/1.1 {status} Told\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
        );
    }
    let dropped = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name == "connection" || (name == "range" && matches!(fault, Fault::Whole))
    };
    let lines = head.lines().filter(|line| !line.is_empty() && !dropped(line));
    let head: String = lines.map(|line| format!("{line}\r\n")).collect();
    let mut up = TcpStream::connect(upstream)?;
    write!(up, "{head}Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    up.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
    let mut body = answer.split_off(end);
    let mut head = String::from_utf8_lossy(&answer).into_owned();
    let promised = body.len();
    match fault {
        Fault::Cut(most) | Fault::Short(most) | Fault::Stall(most) => body.truncate(*most),
        Fault::Longer => body.extend_from_slice(b"more"),
        Fault::Damage => body[promised / 2] ^= 1,
        _ => {}
    }
    if matches!(fault, Fault::Short(_) | Fault::Longer) {
        let length = |len: usize| format!("Content-Length: {len}\r\n");
        head = head.replace(&length(promised), &length(body.len()));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    if matches!(fault, Fault::Stall(_)) {
        // The test may not be listening.
        let _ = tell.send(());
        // Until the client has had enough.
        while stream.read(&mut [0; 64])? > 0 {}
    }
    Ok(())
}
