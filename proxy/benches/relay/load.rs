//! Clients and a server for measuring what lies between them. Blocking, one thread each, standard library only.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a request; the first says what is wanted.
const REQUEST: usize = 100;
/// Bytes of an answer.
const ANSWER: usize = 1024;
/// Wanted: an answer to each request.
const SMALL: u8 = b's';
/// Wanted: bytes without end.
const BULK: u8 = b'b';
/// Bytes of a bulk client's reads and the server's writes.
const CHUNK: usize = 256 << 10;
/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves each connection on a thread of its own, for ever.
pub(crate) fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request)?;
        if request[0] == BULK {
            let chunk = vec![b'x'; CHUNK];
            loop {
                stream.write_all(&chunk)?;
            }
        }
        stream.write_all(&[b'x'; ANSWER])?;
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// How many bytes came over so many connections, and in how many seconds.
///
/// # Errors
/// When a connection breaks.
pub(crate) fn bulk(address: SocketAddr, connections: usize, time: Duration) -> io::Result<(f64, f64)> {
    let started = Instant::now();
    let counted = many(connections, move || {
        let mut stream = connect(address)?;
        stream.write_all(&[BULK; REQUEST])?;
        let (mut count, mut buffer) = (0, vec![0; CHUNK]);
        while started.elapsed() < time {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => count += read,
            }
        }
        Ok(count)
    })?;
    Ok((counted as f64, started.elapsed().as_secs_f64()))
}

/// How many requests were answered over so many connections that stay open, one after the other on each.
///
/// # Errors
/// When a connection breaks.
pub(crate) fn requests(address: SocketAddr, connections: usize, time: Duration) -> io::Result<f64> {
    let started = Instant::now();
    let counted = many(connections, move || {
        let mut stream = connect(address)?;
        let (mut count, mut answer) = (0, [0; ANSWER]);
        while started.elapsed() < time {
            stream.write_all(&[SMALL; REQUEST])?;
            stream.read_exact(&mut answer)?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(counted as f64)
}

/// Seconds from `connect` to the end of the first answer, the median of so many connections one after the other.
///
/// # Errors
/// When a connection breaks.
pub(crate) fn connections(address: SocketAddr, count: usize) -> io::Result<f64> {
    let mut times = Vec::with_capacity(count);
    let mut answer = [0; ANSWER];
    for _ in 0..count {
        let started = Instant::now();
        let mut stream = connect(address)?;
        stream.write_all(&[SMALL; REQUEST])?;
        stream.read_exact(&mut answer)?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(median(&mut times))
}

/// Does the same on so many threads, and adds up.
fn many(threads: usize, work: impl Fn() -> io::Result<usize> + Send + Copy + 'static) -> io::Result<usize> {
    let threads: Vec<_> = (0..threads).map(|_| std::thread::spawn(work)).collect();
    let mut sum = 0;
    for thread in threads {
        sum += thread
            .join()
            .map_err(|_| io::Error::other("a client panicked"))??;
    }
    Ok(sum)
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
