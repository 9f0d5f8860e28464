//! Each fault of the proxy happens, and ends when healed.

use std::time::{Duration, Instant};

use shardlift_harness::proxy::{Cut, Direction, Proxy};
use shardlift_harness::wait::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(200);

/// A server that answers each request with `ok` and tells what it received.
async fn server() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    heard.send(String::from_utf8_lossy(&buffer[..read]).into_owned()).unwrap();
                    stream.write_all(b"ok").await.unwrap();
                }
            });
        }
    });
    (address, hears)
}

async fn ask(stream: &mut TcpStream, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut reply = [0; 2];
    stream.read_exact(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

async fn connected() -> (Proxy, TcpStream, mpsc::UnboundedReceiver<String>) {
    let (address, hears) = server().await;
    let proxy = Proxy::start(address).await.unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, stream, hears)
}

#[tokio::test]
async fn without_faults_it_carries_both_ways_and_ends_in_order() {
    let (proxy, mut stream, mut hears) = connected().await;
    assert_eq!(ask(&mut stream, "BEGIN").await.unwrap(), "ok");
    assert_eq!(hears.recv().await.unwrap(), "BEGIN");
    assert_eq!(proxy.connections(), 1);
    drop(stream);
    wait_for("the connection to end", SOON, async || (proxy.connections() == 0).then_some(())).await.unwrap();
}

#[tokio::test]
async fn a_cut_before_a_commit_keeps_it_from_the_server() {
    let (proxy, mut stream, mut hears) = connected().await;
    proxy.cut(Cut::before("COMMIT"));
    ask(&mut stream, "BEGIN").await.unwrap();
    assert!(ask(&mut stream, "COMMIT").await.is_err());
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(hears.recv().await.unwrap(), "BEGIN");
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut again, "COMMIT").await.unwrap(), "ok", "a cut happens once");
    assert_eq!(hears.recv().await.unwrap(), "COMMIT", "and the first was never heard");
}

#[tokio::test]
async fn a_cut_after_a_commit_loses_only_the_reply() {
    let (proxy, mut stream, mut hears) = connected().await;
    proxy.cut(Cut::after("COMMIT"));
    ask(&mut stream, "BEGIN").await.unwrap();
    assert!(ask(&mut stream, "COMMIT").await.is_err());
    assert_eq!(hears.recv().await.unwrap(), "BEGIN");
    assert_eq!(hears.recv().await.unwrap(), "COMMIT");
    assert_eq!(proxy.cuts(), 1);
}

#[tokio::test]
async fn a_pattern_in_two_pieces_is_seen() {
    let (proxy, mut stream, mut hears) = connected().await;
    proxy.cut(Cut::before("COMMIT"));
    ask(&mut stream, "xCOM").await.unwrap();
    assert!(ask(&mut stream, "MITx").await.is_err());
    assert_eq!(hears.recv().await.unwrap(), "xCOM");
}

#[tokio::test]
async fn a_cut_after_bytes_loses_the_rest() {
    let (proxy, mut stream, mut hears) = connected().await;
    proxy.cut(Cut::after_bytes(Direction::ToServer, 3));
    assert!(ask(&mut stream, "BEGIN").await.is_err());
    assert_eq!(hears.recv().await.unwrap(), "BEG");
}

#[tokio::test]
async fn a_stalled_direction_is_silent_until_healed() {
    let (proxy, mut stream, mut hears) = connected().await;
    proxy.stall(Direction::ToClient);
    assert!(timeout(SILENCE, ask(&mut stream, "BEGIN")).await.is_err(), "no reply arrives");
    assert_eq!(hears.recv().await.unwrap(), "BEGIN", "but the request does");
    proxy.heal();
    let mut reply = [0; 2];
    timeout(SOON, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(&reply, b"ok");
}

#[tokio::test]
async fn in_a_partition_nobody_sees_the_other_end_close() {
    let (proxy, mut stream, mut hears) = connected().await;
    ask(&mut stream, "BEGIN").await.unwrap();
    hears.recv().await.unwrap();
    proxy.stall_both();
    drop(stream);
    assert!(timeout(SILENCE, hears.recv()).await.is_err());
    assert_eq!(proxy.connections(), 1, "half-open");
    proxy.reset_all();
    wait_for("the reset", SOON, async || (proxy.connections() == 0).then_some(())).await.unwrap();
}

#[tokio::test]
async fn a_reset_reaches_the_client_as_an_error() {
    let (proxy, mut stream, _hears) = connected().await;
    ask(&mut stream, "BEGIN").await.unwrap();
    proxy.reset_all();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn refused_connections_fail_and_open_ones_go_on() {
    let (proxy, mut stream, _hears) = connected().await;
    ask(&mut stream, "BEGIN").await.unwrap();
    proxy.refuse();
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(ask(&mut second, "BEGIN").await.is_err());
    assert_eq!(ask(&mut stream, "SELECT").await.unwrap(), "ok");
    proxy.heal();
    let mut third = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut third, "BEGIN").await.unwrap(), "ok");
}

#[tokio::test]
async fn latency_delays_both_directions() {
    let (proxy, mut stream, _hears) = connected().await;
    proxy.latency(Duration::from_millis(60));
    let started = Instant::now();
    ask(&mut stream, "BEGIN").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
}
