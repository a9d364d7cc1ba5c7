//! A raw HTTP/1.1 client on one kept-alive connection: it sends what no decent client would, and a request without an answer fails the test.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// No answer within this is a hang.
const ANSWER: Duration = Duration::from_secs(20);

/// What to send.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    /// Sent with its length; none: without a body and without a length.
    pub body: Option<Vec<u8>>,
    /// Send the body in chunks, its length unannounced.
    pub chunked: bool,
}

impl Request {
    pub fn new(method: &str, path: impl Into<String>) -> Request {
        Request { method: method.to_owned(), path: path.into(), ..Request::default() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.headers.push((name, value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Request {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self.header("Content-Type", content_type)
    }

    pub fn json(self, body: &Value) -> Request {
        self.body("application/json", body.to_string())
    }

    /// For messages: what was sent, shortened.
    pub fn shown(&self) -> String {
        let body = self.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let cut = |text: &str| text.chars().take(400).collect::<String>();
        let headers: Vec<String> = self.headers.iter().map(|(name, value)| format!("{name}: {}", cut(value))).collect();
        format!("{} {} [{}] {}", self.method, cut(&self.path), headers.join(", "), cut(&body))
    }

    /// Everything in it that an answer may repeat.
    pub fn contains(&self, text: &str) -> bool {
        self.path.contains(text)
            || self.headers.iter().any(|(_, value)| value.contains(text))
            || self.body.as_deref().is_some_and(|body| String::from_utf8_lossy(body).contains(text))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers, as they came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it is a well-formed problem with its own status.
    pub fn is_problem(&self) -> bool {
        let body = self.json();
        let text = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
        self.header("content-type") == "application/problem+json"
            && body["status"] == self.status
            && text("type")
            && text("title")
            && text("detail")
            && text("code")
            && text("request_id")
            && body["errors"].is_array()
    }

    /// The fields that a problem names.
    pub fn fields(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["field"].as_str()).map(str::to_owned).collect()
    }
}

/// One connection to the server, opened again when the server has closed it.
pub struct Client {
    authority: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// To a server's URL.
    pub fn new(url: &str) -> Client {
        Client { authority: url.strip_prefix("http://").expect("plain HTTP").to_owned(), connection: None }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.authority).expect("the server accepts");
        stream.set_nodelay(true).expect("an open socket");
        stream.set_read_timeout(Some(ANSWER)).expect("an open socket");
        stream.set_write_timeout(Some(ANSWER)).expect("an open socket");
        BufReader::with_capacity(64 * 1024, stream)
    }

    /// Sends a request and reads the whole answer.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Answer {
        let mut connection = self.connection.take().unwrap_or_else(|| self.connect());
        let bytes = self.bytes(request);
        // The server may answer and close before it has seen all of a body that it refuses.
        let written = connection.get_mut().write_all(&bytes);
        let answer = read(&mut connection, &request.method)
            .unwrap_or_else(|error| panic!("no answer ({error}, sent: {written:?}) to {}", request.shown()));
        if !answer.header("connection").eq_ignore_ascii_case("close") && written.is_ok() {
            self.connection = Some(connection);
        }
        answer
    }

    /// Reads an endless answer until `enough` of its text is there. Gives what came; panics when it takes too long.
    #[track_caller]
    pub fn stream(&self, request: &Request, enough: impl Fn(&str) -> bool) -> String {
        let mut connection = self.connect();
        connection.get_mut().write_all(&self.bytes(request)).expect("the server reads");
        connection.get_mut().set_read_timeout(Some(Duration::from_millis(200))).expect("an open socket");
        let (began, mut text, mut piece) = (Instant::now(), Vec::new(), [0; 16 * 1024]);
        loop {
            match connection.read(&mut piece) {
                Ok(0) => return String::from_utf8_lossy(&text).into_owned(),
                Ok(count) => text.extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}: {}", request.shown()),
            }
            let so_far = String::from_utf8_lossy(&text);
            if enough(&so_far) {
                return so_far.into_owned();
            }
            assert!(began.elapsed() < ANSWER, "not enough came of {}: {so_far}", request.shown());
        }
    }

    fn bytes(&self, request: &Request) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.path, self.authority).into_bytes();
        for (name, value) in &request.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match &request.body {
            Some(body) if request.chunked => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(64 * 1024) {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
            Some(body) => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
            }
            None => bytes.extend_from_slice(b"\r\n"),
        }
        bytes
    }
}

/// Reads one answer with a length.
fn read(connection: &mut BufReader<TcpStream>, method: &str) -> std::io::Result<Answer> {
    let (mut head, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("the connection was closed"));
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not HTTP: {head}")))?;
    let mut answer = Answer { status, head, body: Vec::new() };
    if method != "HEAD" && status != 204 && status != 304 {
        let length = answer.header("content-length").parse().map_err(|_| std::io::Error::other(format!("no length: {}", answer.head)))?;
        answer.body = vec![0; length];
        connection.read_exact(&mut answer.body)?;
    }
    Ok(answer)
}
