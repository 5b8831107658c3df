//! The demo's web program: one file, no dependencies, so that `rustc` alone builds it for an empty root.
//!
//! It speaks enough HTTP/1.1 to show what Linkspan does: keep-alive, streaming, WebSocket, and a stop that finishes
//! what it began. It is a program *behind* the proxy and is not meant to face anybody else.
//!
//! ```text
//! web serve               answer on $PORT (8080)
//! web files FOLDER        serve a folder on $PORT
//! web check PATH          exit 0 when GET http://127.0.0.1:$PORT/PATH answers 200: a health check
//! web sleep [SECONDS]     wait for SIGTERM, or so long
//! web exit STATUS         end at once
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set by SIGTERM: answers say `Connection: close`, nothing new is accepted.
static STOPPING: AtomicBool = AtomicBool::new(false);
/// Requests whose head has begun to arrive and whose response has not ended.
static BUSY: AtomicUsize = AtomicUsize::new(0);
/// Requests answered since the start.
static SERVED: AtomicUsize = AtomicUsize::new(0);

/// Longest time that responses under way may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(9);
/// Longest request head, in bytes.
const HEAD_MAX: u64 = 64 << 10;

fn main() -> ExitCode {
    signal::block();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = match args.as_slice() {
        [] | ["serve"] => serve(Site::Program),
        ["files", folder] => serve(Site::Files(PathBuf::from(folder))),
        ["check", path] => check(path),
        ["sleep"] => sleep(None),
        ["sleep", seconds] => sleep(seconds.parse().ok()),
        ["exit", status] => return ExitCode::from(status.parse::<u8>().unwrap_or(1)),
        _ => Err(io::Error::other("usage: web serve | files FOLDER | check PATH | sleep [SECONDS] | exit STATUS")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is served.
enum Site {
    Program,
    Files(PathBuf),
}

fn serve(site: Site) -> io::Result<()> {
    let port = port();
    // A delay before listening makes a slow starter, as many real programs are.
    if let Some(delay) = std::env::var("START_DELAY_MS").ok().and_then(|ms| ms.parse().ok()) {
        thread::sleep(Duration::from_millis(delay));
    }
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    println!("{} listens on port {port}", hostname());

    let site = Arc::new(site);
    let accepting = thread::spawn(move || {
        for stream in listener.incoming() {
            if STOPPING.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let site = Arc::clone(&site);
            thread::spawn(move || {
                if let Err(error) = connection(&stream, &site) {
                    // The other side went away; nobody is left to tell but the log.
                    if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
                        eprintln!("connection: {error}");
                    }
                }
            });
        }
    });

    signal::wait();
    STOPPING.store(true, Ordering::SeqCst);
    println!("stopping, {} requests under way", BUSY.load(Ordering::SeqCst));
    // `accept` has no timeout; a connection of our own wakes it, and the listener is closed.
    drop(TcpStream::connect(("127.0.0.1", port)));
    let _ = accepting.join();
    let asked = Instant::now();
    while BUSY.load(Ordering::SeqCst) > 0 && asked.elapsed() < GRACE {
        thread::sleep(Duration::from_millis(5));
    }
    println!("stopped after {} requests", SERVED.load(Ordering::SeqCst));
    Ok(())
}

fn check(path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path.trim_start_matches('/'))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(io::Error::other(format!("answered `{}`", line.trim_end()))),
    }
}

fn sleep(seconds: Option<u64>) -> io::Result<()> {
    println!("waits");
    if let Some(seconds) = seconds {
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            std::process::exit(0);
        });
    }
    signal::wait();
    Ok(())
}

// === HTTP/1.1 ===

/// A request's head, and the body once it was read.
struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    /// As received, for `/headers`.
    lines: Vec<String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Counts a request as under way for as long as it lives.
struct Busy;

impl Busy {
    fn begin() -> Busy {
        BUSY.fetch_add(1, Ordering::SeqCst);
        Busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

fn connection(stream: &TcpStream, site: &Site) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        let _busy = Busy::begin();
        let Some(request) = read_request(&mut reader, stream)? else {
            return respond(stream, "400 Bad Request", "text/plain", b"malformed request\n", true, false);
        };
        if request.path == "/ws" {
            return websocket(&mut reader, stream, &request);
        }
        let close = STOPPING.load(Ordering::SeqCst)
            || request.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        answer(stream, site, &request, close)?;
        SERVED.fetch_add(1, Ordering::SeqCst);
        if close {
            return stream.shutdown(Shutdown::Write);
        }
    }
}

/// `None` for what isn't HTTP.
fn read_request(reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD_MAX);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let Some((method, rest)) = lines.first().and_then(|line| line.split_once(' ')) else { return Ok(None) };
    let target = rest.split(' ').next().unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = read_body(reader, &headers)?;
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), query, headers, body, lines }))
}

fn read_body(reader: &mut BufReader<&TcpStream>, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            reader.by_ref().take(size).read_to_end(&mut body)?;
            let mut end = String::new();
            reader.read_line(&mut end)?;
            if size == 0 {
                // Trailers, if there are any, up to the empty line.
                while !end.trim_end().is_empty() {
                    end.clear();
                    reader.read_line(&mut end)?;
                }
                return Ok(body);
            }
        }
    }
    if let Some(length) = headers.get("content-length") {
        let length = length.parse().map_err(io::Error::other)?;
        reader.by_ref().take(length).read_to_end(&mut body)?;
    }
    Ok(body)
}

fn respond(mut stream: &TcpStream, status: &str, kind: &str, body: &[u8], close: bool, head: bool) -> io::Result<()> {
    let connection = if close { "close" } else { "keep-alive" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: {connection}\r\nX-Served-By: {}\r\n\r\n",
        body.len(),
        who(stream),
    )
    .into_bytes();
    if !head {
        response.extend_from_slice(body);
    }
    stream.write_all(&response)
}

fn answer(stream: &TcpStream, site: &Site, request: &Request, close: bool) -> io::Result<()> {
    let head = request.method == "HEAD";
    let text = |body: &str| respond(stream, "200 OK", "text/plain; charset=utf-8", body.as_bytes(), close, head);
    let number = |name: &str, default: u64| request.query.get(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    if let Site::Files(folder) = site {
        return file(stream, folder, request, close);
    }
    match request.path.as_str() {
        "/" => respond(stream, "200 OK", "text/html; charset=utf-8", page(stream).as_bytes(), close, head),
        "/health" => text("fine\n"),
        "/who" => text(&format!("{}\n", who(stream))),
        "/headers" => text(&(request.lines.join("\n") + "\n")),
        "/peer" => text(&format!("{} -> {}\n", stream.peer_addr()?, stream.local_addr()?)),
        "/env" => {
            let mut variables: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
            variables.sort();
            text(&variables.concat())
        }
        "/echo" => respond(stream, "200 OK", "application/octet-stream", &request.body, close, head),
        "/slow" => {
            thread::sleep(Duration::from_millis(number("ms", 1000)));
            text("slow, but here\n")
        }
        "/big" => big(stream, number("n", 1 << 20), close, head),
        "/drip" => drip(stream, number("n", 5), Duration::from_millis(number("ms", 200)), close),
        "/exit" => std::process::exit(number("status", 1) as i32),
        path if path == "/api" || path.starts_with("/api/") => {
            let body = format!("{{\"who\":\"{}\",\"path\":\"{path}\",\"method\":\"{}\"}}\n", who(stream), request.method);
            respond(stream, "200 OK", "application/json", body.as_bytes(), close, head)
        }
        _ => respond(stream, "404 Not Found", "text/plain", b"not found\n", close, head),
    }
}

/// `n` bytes whose value depends on their place, so that a gap shows.
fn big(mut stream: &TcpStream, n: u64, close: bool, head: bool) -> io::Result<()> {
    let connection = if close { "close" } else { "keep-alive" };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {n}\r\nConnection: {connection}\r\n\r\n")?;
    if head {
        return Ok(());
    }
    let mut block = [0u8; 16 << 10];
    for (place, byte) in block.iter_mut().enumerate() {
        *byte = b'a' + (place % 26) as u8;
    }
    let mut left = n;
    while left > 0 {
        let now = left.min(block.len() as u64);
        stream.write_all(&block[..now as usize])?;
        left -= now;
    }
    Ok(())
}

/// `n` chunks, one every `pause`.
fn drip(mut stream: &TcpStream, n: u64, pause: Duration, close: bool) -> io::Result<()> {
    let connection = if close { "close" } else { "keep-alive" };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nConnection: {connection}\r\n\r\n"
    )?;
    for drop in 1..=n {
        let line = format!("drop {drop} of {n}\n");
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
        thread::sleep(pause);
    }
    stream.write_all(b"0\r\n\r\n")
}

fn page(stream: &TcpStream) -> String {
    format!(
        "<!doctype html>\n<meta charset=utf-8>\n<title>Linkspan demo shop</title>\n<h1>Hello from {}</h1>\n\
         <p>{} requests served. <a href=/headers>What the proxy sent</a>, <a href=/api/hello>the API</a>.\n\
         <p>WebSocket: <output id=w>connecting…</output>\n<script>\n\
         const w = new WebSocket(`wss://${{location.host}}/ws`)\n\
         w.onopen = () => w.send('echo')\n\
         w.onmessage = m => document.getElementById('w').textContent = m.data\n</script>\n",
        who(stream),
        SERVED.load(Ordering::SeqCst),
    )
}

fn file(stream: &TcpStream, folder: &Path, request: &Request, close: bool) -> io::Result<()> {
    let head = request.method == "HEAD";
    let wanted = Path::new(request.path.trim_start_matches('/'));
    let inside = wanted.components().all(|part| matches!(part, Component::Normal(_)));
    let mut path = folder.join(wanted);
    if path.is_dir() {
        path.push("index.html");
    }
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    match fs::read(&path) {
        Ok(body) if inside => respond(stream, "200 OK", kind, &body, close, head),
        _ => respond(stream, "404 Not Found", "text/plain", b"not found\n", close, head),
    }
}

fn port() -> u16 {
    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}

/// Hostname and address: replicas share the first, never the second.
fn who(stream: &TcpStream) -> String {
    let address = stream.local_addr().map(|address| address.ip().to_canonical().to_string());
    format!("{} at {}", hostname(), address.unwrap_or_default())
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

// === WebSocket, RFC 6455 ===

fn websocket(reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream, request: &Request) -> io::Result<()> {
    let Some(key) = request.headers.get("sec-websocket-key") else {
        return respond(stream, "426 Upgrade Required", "text/plain", b"this is a websocket\n", true, false);
    };
    let accept = base64(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    loop {
        let mut first = [0u8; 2];
        reader.read_exact(&mut first)?;
        let mut length = u64::from(first[1] & 0x7f);
        if length == 126 {
            let mut more = [0u8; 2];
            reader.read_exact(&mut more)?;
            length = u64::from(u16::from_be_bytes(more));
        } else if length == 127 {
            let mut more = [0u8; 8];
            reader.read_exact(&mut more)?;
            length = u64::from_be_bytes(more);
        }
        if length > 1 << 20 {
            return Err(io::Error::other("websocket frame over 1 MiB"));
        }
        let mut mask = [0u8; 4];
        if first[1] & 0x80 != 0 {
            reader.read_exact(&mut mask)?;
        }
        let mut payload = vec![0u8; length as usize];
        reader.read_exact(&mut payload)?;
        for (place, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[place % 4];
        }
        match first[0] & 0x0f {
            // Close: answered in kind, then done.
            8 => return frame(stream, 0x88, &payload),
            // Ping.
            9 => frame(stream, 0x8a, &payload)?,
            10 => {}
            // Text is answered with our name in front, binary as it came.
            1 => frame(stream, 0x81, format!("{}: {}", who(stream), String::from_utf8_lossy(&payload)).as_bytes())?,
            _ => frame(stream, 0x82, &payload)?,
        }
    }
}

fn frame(mut stream: &TcpStream, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(length as u8),
        length @ 126..65536 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    stream.write_all(&bytes)
}

/// FIPS 180-4; used for the WebSocket handshake only, which demands it.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999u32),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut digest = [0u8; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut three = [0u8; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            if place <= group.len() {
                text.push(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// SIGTERM and SIGINT, waited for instead of handled: pid 1 of a container is sent no signal that it doesn't ask for.
mod signal {
    /// `sigset_t` of glibc and musl: 1,024 bits.
    type Set = [u64; 16];

    const SIG_BLOCK: i32 = 0;
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;

    unsafe extern "C" {
        fn pthread_sigmask(how: i32, set: *const Set, old: *mut Set) -> i32;
        fn sigwait(set: *const Set, signal: *mut i32) -> i32;
    }

    fn set() -> Set {
        let mut set = [0; 16];
        set[0] = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1);
        set
    }

    /// Before the first thread, which inherits the mask.
    pub fn block() {
        // SAFETY: `set` lives for the call and has the size of `sigset_t`; no old mask is asked for.
        unsafe { pthread_sigmask(SIG_BLOCK, &set(), std::ptr::null_mut()) };
    }

    pub fn wait() {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call; the set has the size of `sigset_t`.
        unsafe { sigwait(&set(), &mut signal) };
    }
}
