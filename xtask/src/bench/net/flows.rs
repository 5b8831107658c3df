//! Connections through published ports: how long a new one takes, how much goes through one, and at what cost.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::{Bench, WEB, line};
use crate::bench::proxy::{Owned, cpu_seconds, number_after};
use crate::bench::{median, millis, ninetieth};
use crate::{Failure, Outcome, program};

/// Connections of one measurement of their latency.
const CONNECTIONS: usize = 2_000;
/// Bytes of the file that is fetched: as much as the memory that every engine gives a container at `/dev/shm` holds. From a
/// disk, its cache would be measured.
const FILE: usize = 48 << 20;
/// The host port of what is measured; the others are above.
const PORT: u16 = 20_000;
const OTHERS: u16 = 10_000;

/// Runs a closure on the neighbour in the LAN: a thread of its own makes the sockets.
pub(super) fn in_lan<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    let joined = thread::spawn(move || {
        let namespace = File::open("/run/netns/lan")?;
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("cannot enter the LAN: {error}"))?;
        work()
    })
    .join();
    joined.map_err(|_| "a measurement in the LAN broke off")?
}

/// Asks for the page or, with a size, for the file, and reads until the end; bytes.
pub(super) fn fetch(address: SocketAddr, at_least: usize) -> Outcome<usize> {
    let path = if at_least == 0 { "/" } else { "/file" };
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut buffer = vec![0; 256 << 10];
    let mut all = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            count => all += count,
        }
    }
    if all == 0 || all < at_least {
        return Err(format!("{address} answered {all} bytes").into());
    }
    Ok(all)
}

/// Times from the call to the established connection, in microseconds.
fn connect(address: SocketAddr) -> Outcome<Vec<f64>> {
    let mut times = Vec::new();
    for index in 0..CONNECTIONS + 100 {
        let clock = Instant::now();
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        let took = clock.elapsed().as_secs_f64() * 1e6;
        // The first only fill caches.
        if index >= 100 {
            times.push(took);
        }
        // Until the server is done with this one: its queue is short, and a connection that finds no room in it is begun
        // again only after a second.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(times)
}

/// Bytes a second through one connection after the other, in MB/s.
fn throughput(address: SocketAddr, seconds: u64) -> Outcome<f64> {
    let clock = Instant::now();
    let mut bytes = 0;
    while clock.elapsed() < Duration::from_secs(seconds) {
        bytes += fetch(address, FILE)?;
    }
    Ok(bytes as f64 / 1e6 / clock.elapsed().as_secs_f64())
}

/// A command that serves the page, and a file of [`FILE`] bytes.
fn serve_file() -> String {
    format!(
        "'mkdir /dev/shm/www; cp /www/index.html /dev/shm/www; head -c {FILE} /dev/zero > /dev/shm/www/file; exec httpd -f -p 80 -h /dev/shm/www'"
    )
}

fn until_served(address: SocketAddr) -> Outcome {
    let begun = Instant::now();
    while fetch(address, FILE).is_err() {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("nothing is served at {address}").into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Through a port on the host's address, from the LAN, with no other ports and with ten thousand.
pub(super) fn nat(bench: &Bench) -> Outcome {
    println!("from the LAN through a published port, beside so many others; connections one after the other");
    let site = |others: bool| {
        let last = PORT + OTHERS;
        let others = if others {
            format!(", '0.0.0.0:{}-{last}:40001-50000'", PORT + 1)
        } else {
            String::new()
        };
        format!(
            "containers: {{ web: {{ {WEB}, command: [sh, -c, {}], ports: ['0.0.0.0:{PORT}:80'{others}] }} }}\n",
            serve_file()
        )
    };
    let address = SocketAddr::from(([192, 0, 2, 1], PORT));
    let seconds = bench.seconds;
    let measure = move || -> Outcome<(f64, f64, f64)> {
        in_lan(move || {
            until_served(address)?;
            let times = connect(address)?;
            Ok((median(&times), ninetieth(&times), throughput(address, seconds)?))
        })
    };
    let mut first = None;
    let mut failed = Ok(());
    for others in [false, true] {
        if let Err(Failure(why)) = bench.up(&site(others)) {
            // The others are measured all the same.
            failed = Err(format!("beside {OTHERS} ports: {why}").into());
            continue;
        }
        let (middle, high, rate) = measure()?;
        let (middle1, high1, rate1) = *first.get_or_insert((middle, high, rate));
        let size = if others { OTHERS.into() } else { 0 };
        line("linkspan, new connection, median", size, middle, "µs", middle1);
        line("linkspan, new connection, 90 %", size, high, "µs", high1);
        line("linkspan, throughput", size, rate, "MB/s", rate1);
    }
    let _ = bench.down();
    let Some((middle1, high1, rate1)) = first else {
        return failed;
    };
    println!("the last column: by linkspan's with no others");
    for engine in &bench.engines {
        let name = engine.name();
        // Docker starts a process for each port: ten thousand of them are more than a host has room for.
        let sizes: &[u16] = match engine {
            Engine::Docker(_) => &[0],
            Engine::Podman(_) => &[0, OTHERS],
        };
        for others in sizes {
            let mut more = vec!["-p".to_owned(), format!("0.0.0.0:{PORT}:80")];
            if *others > 0 {
                let (from, to) = (PORT + 1, PORT + others);
                more.extend(["-p".to_owned(), format!("0.0.0.0:{from}-{to}:{from}-{to}")]);
            }
            engine.run("bench", &more, &["sh", "-c", serve_file().trim_matches('\'')])?;
            let measured = measure();
            engine.remove(&["bench".to_owned()])?;
            let (middle, high, rate) = measured?;
            let size = usize::from(*others);
            line(
                &format!("{name}, new connection, median"),
                size,
                middle,
                "µs",
                middle1,
            );
            line(&format!("{name}, new connection, 90 %"), size, high, "µs", high1);
            line(&format!("{name}, throughput"), size, rate, "MB/s", rate1);
        }
    }
    failed
}

/// A forwarder on this host's loopback.
struct Contender {
    name: &'static str,
    port: u16,
    pid: u32,
}

/// Starts one from a port of this host's loopback to port 80 of an address.
type Start = fn(&Bench, u16, &str) -> Outcome<Child>;

fn docker_proxy(_: &Bench, port: u16, target: &str) -> Outcome<Child> {
    // It tells by descriptor 3 that it listens.
    let line = "exec docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port $1 -container-ip $2 -container-port 80 3>/dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", &port.to_string(), target]);
    Ok(command.stdin(Stdio::null()).spawn()?)
}

fn haproxy(bench: &Bench, port: u16, target: &str) -> Outcome<Child> {
    let file = bench.daemon.state.join("haproxy-tcp.cfg");
    fs::write(
        &file,
        format!(
            "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout client 30s\n  timeout server 30s\n  timeout connect 5s\n\
             \x20 option splice-auto\nlisten l\n  bind 127.0.0.1:{port}\n  server s {target}:80\n"
        ),
    )?;
    let program = program::find("haproxy").ok_or("no `haproxy` here")?;
    let mut command = Command::new(program);
    Ok(command
        .args(["-db", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()?)
}

/// Through a port on localhost, which a program forwards.
pub(super) fn localhost(bench: &Bench) -> Outcome {
    println!("on localhost, forwarded to one and the same container; the last column: by linkspan's");
    bench.up(&format!(
        "containers: {{ web: {{ {WEB}, command: [sh, -c, {}], ports: ['{PORT}:80'] }} }}\n",
        serve_file()
    ))?;
    let (target, _) = bench.container("bench-web-1")?;
    until_served(SocketAddr::from(([127, 0, 0, 1], PORT)))?;
    let status = program::output(&mut bench.daemon.linkspan(&["status", "--format", "json"]))?;
    let own = status
        .split_once("\"proxy\"")
        .and_then(|(_, rest)| number_after(rest, "\"pid\":"))
        .and_then(|pid| u32::try_from(pid).ok())
        .ok_or("`linkspan status` names no proxy")?;
    let mut contenders = vec![Contender {
        name: "linkspan",
        port: PORT,
        pid: own,
    }];
    let mut running = Vec::new();
    for (name, shown, port, start) in [
        ("docker-proxy", "docker-proxy", 20_001, docker_proxy as Start),
        ("haproxy", "haproxy, TCP with splice", 20_002, haproxy as Start),
    ] {
        if program::find(name).is_none() {
            println!("SKIP {name}: not here");
            continue;
        }
        let child = Owned(start(bench, port, &target)?);
        contenders.push(Contender {
            name: shown,
            port,
            pid: child.0.id(),
        });
        running.push(child);
    }
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut costs = vec![Vec::new(); contenders.len()];
    let mut news = vec![Vec::new(); contenders.len()];
    for round in 0..3 {
        for (index, contender) in contenders.iter().enumerate() {
            let address = SocketAddr::from(([127, 0, 0, 1], contender.port));
            if round == 0 {
                until_served(address)?;
            }
            let before = cpu_seconds(&[contender.pid])?;
            let clock = Instant::now();
            let rate = throughput(address, bench.seconds)?;
            let used = cpu_seconds(&[contender.pid])? - before;
            rates[index].push(rate);
            costs[index].push(used * 1e9 / (rate * 1e6 * millis(clock.elapsed()) / 1000.0));
            news[index].extend(connect_and_fetch(address)?);
        }
    }
    let reference = [&rates, &costs, &news].map(|all| median(&all[0]));
    for (index, contender) in contenders.iter().enumerate() {
        let name = contender.name;
        line(
            &format!("{name}, throughput"),
            1,
            median(&rates[index]),
            "MB/s",
            reference[0],
        );
        line(
            &format!("{name}, CPU time of its own"),
            1,
            median(&costs[index]),
            "ns/B",
            reference[1],
        );
        line(
            &format!("{name}, connection and page, median"),
            1,
            median(&news[index]),
            "µs",
            reference[2],
        );
    }
    bench.down().map(drop)
}

/// Times of a connection with one small page: a forwarder accepts before it has reached anybody.
fn connect_and_fetch(address: SocketAddr) -> Outcome<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let clock = Instant::now();
        fetch(address, 0)?;
        times.push(clock.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}
