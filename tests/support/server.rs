//! A server of HTTP on this machine, which answers as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the server answers a request.
#[derive(Clone, Copy)]
pub enum Reply {
    /// 200 with everything, whatever range is asked for.
    Whole,
    /// 206 with the range asked for, or 416 beyond the end; everything if none is.
    Range,
    /// As `Range`, but the connection ends after so many bytes of the body.
    Cut(usize),
    /// As `Whole`, but cut.
    WholeCut(usize),
    /// 206 from another place than asked for.
    WrongRange,
    /// As `Whole`, but only so many bytes every 10 ms.
    Slow(usize),
    /// Nothing, and the connection stays open.
    Nothing,
    /// An error.
    Status(u16),
}

pub struct Server {
    pub url: String,
    /// First byte of the range of each request.
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    /// Serves `body`, request n with reply n, and the last reply from then on.
    pub fn start(body: Vec<u8>, replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cifar-10-binary.tar.gz", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            let mut held = vec![];
            for (n, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let range = read_range(&stream);
                log.lock().unwrap().push(range);
                let reply = replies[n.min(replies.len() - 1)];
                let answer = answer(&body, reply, range);
                // The client may hang up first.
                match reply {
                    Reply::Nothing => held.push(stream),
                    Reply::Slow(piece) => {
                        let mut pieces = answer.chunks(piece);
                        while pieces.next().is_some_and(|piece| stream.write_all(piece).is_ok()) {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                    }
                    _ => _ = stream.write_all(&answer),
                }
            }
        });
        Server { url, asked }
    }

    pub fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_range(stream: &TcpStream) -> Option<usize> {
    let lines = BufReader::new(stream).lines().map(|line| line.unwrap().to_lowercase());
    let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes="))?;
    Some(range.trim_end_matches('-').parse().unwrap())
}

fn answer(body: &[u8], reply: Reply, range: Option<usize>) -> Vec<u8> {
    let total = body.len();
    let response = |status: &str, from: usize, more: String, sent: usize| {
        let length = total - from;
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n");
        [head.as_bytes(), &body[from..total.min(from + sent)]].concat()
    };
    let part = |from: usize, sent: usize| {
        let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
        response("206 Partial Content", from, range, sent)
    };
    match (reply, range) {
        (Reply::Status(status), _) => {
            format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").into_bytes()
        }
        (Reply::Range | Reply::Cut(_), Some(from)) if from >= total => format!(
            "HTTP/1.1 416 No\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\nConnection: \
             close\r\n\r\n"
        )
        .into_bytes(),
        (Reply::WrongRange, Some(_)) => part(1, total),
        (Reply::Range, Some(from)) => part(from, total),
        (Reply::Cut(sent), Some(from)) => part(from, sent),
        (Reply::Cut(sent) | Reply::WholeCut(sent), _) => response("200 OK", 0, String::new(), sent),
        (Reply::Nothing, _) => vec![],
        (_, _) => response("200 OK", 0, String::new(), total),
    }
}
