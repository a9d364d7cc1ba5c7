//! The serving loop: HTTP/1.1 over TCP or TLS, with every wait bounded, and a shutdown that finishes what is in flight.

use crate::edge::Web;
use crate::limits::Peer;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use kernel::{Error, Result};
use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

/// Headers of one request.
const MAX_HEADERS: usize = 100;
/// After a failed accept (no file descriptors left) it waits so long.
const ACCEPT_PAUSE_MS: u64 = 50;
/// Pieces of a listener's queue.
const BACKLOG: u32 = 1024;
/// What still arrives of a refused body is taken in for so long, and so much of it, before the connection is closed.
const LINGER_MS: u64 = 5_000;
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A bound server.
pub struct Server {
    web: Web,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Server {
    /// Binds to the configured address and reads the TLS files. Errors: unavailable with code `server.cannot_listen`;
    /// invalid with code `config.invalid` for TLS files that are none.
    pub async fn bind(web: Web) -> Result<Server> {
        let config = web.app().config();
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(acceptor(cert, key)?),
            _ => None,
        };
        let listen = config.listen;
        let cannot =
            |error: io::Error| Error::unavailable("server.cannot_listen", format!("cannot listen on {listen}: {error}")).caused_by(error);
        let socket = if listen.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }.map_err(cannot)?;
        socket.set_reuseaddr(true).map_err(cannot)?;
        socket.bind(listen).map_err(cannot)?;
        let listener = socket.listen(BACKLOG).map_err(cannot)?;
        Ok(Server { web, listener, tls })
    }

    /// Where it listens, the port filled in.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.web.app().config().listen)
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `stop` is done, then finishes what is in flight, for at most `shutdown_ms`. Says whether all of it was finished.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> bool {
        let Server { web, listener, tls } = self;
        let config = web.app().config().clone();
        let room = Arc::new(Semaphore::new(config.connections.min(Semaphore::MAX_PERMITS)));
        let graceful = GracefulShutdown::new();
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
            .max_buf_size(config.header_limit_bytes)
            .max_headers(MAX_HEADERS);
        // Dropped at the end of this function: ends the connections that did not finish in time.
        let mut connections = tokio::task::JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = async {
                    let permit = room.clone().acquire_owned().await;
                    (listener.accept().await, permit)
                } => accepted,
            };
            let (Ok((stream, peer)), Ok(permit)) = accepted else {
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            };
            // An address with too many connections finds this one closed. Behind a proxy they are all the proxy's, and the rules count.
            let held = match web.app().limits() {
                Some(limits) if !web.app().trusted_proxies().contains(peer.ip()) => match limits.connection(peer.ip()) {
                    Some(held) => Some(held),
                    None => continue,
                },
                _ => None,
            };
            let (web, builder, tls, watcher) = (web.clone(), builder.clone(), tls.clone(), graceful.watcher());
            let patience = Duration::from_millis(config.header_timeout_ms);
            connections.spawn(async move {
                let open = OpenConnection::new(&web.app().0.metrics.connections);
                connection(stream, Peer(peer.ip()), web, &builder, tls, watcher, patience).await;
                drop((open, permit, held));
            });
        }
        drop(listener);
        web.app().0.stopping.send_replace(true);
        tokio::time::timeout(Duration::from_millis(config.shutdown_ms), graceful.shutdown()).await.is_ok()
    }
}

/// Counts a connection as long as it is open.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        OpenConnection(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    web: Web,
    builder: &http1::Builder,
    tls: Option<TlsAcceptor>,
    watcher: Watcher,
    patience: Duration,
) {
    // Answers are written whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, peer, web, builder, watcher).await,
        Some(tls) => match tokio::time::timeout(patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, peer, web, builder, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    web: Web,
    builder: &http1::Builder,
    watcher: Watcher,
) {
    let unread = Arc::new(AtomicBool::new(false));
    let stream = Lingering { stream, unread: unread.clone(), deadline: None, bytes: 0 };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let web = web.clone();
        let rest = !request.body().is_end_stream();
        unread.store(rest, Relaxed);
        let request = if rest { request.map(|body| Body::new(Watched { body, unread: unread.clone() })) } else { request.map(Body::new) };
        let unread = rest.then(|| unread.clone());
        async move {
            let mut request = Request::from(request);
            request.extensions_mut().insert(peer);
            let mut response = web.handle(request).await;
            // What is left of the body stands between this request and the next one: the client is told not to send that here.
            if unread.is_some_and(|unread| unread.load(Relaxed)) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    if let Err(error) = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// A request's body, which says when it has been read to its end.
struct Watched {
    body: Incoming,
    unread: Arc<AtomicBool>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.unread.store(false, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that, closed while its client is still sending a body, takes in the rest for a while. Closed at once it would be reset, and the
/// client would lose the answer that says why its body was refused.
struct Lingering<S> {
    stream: S,
    /// Whether the last request's body was not read to its end.
    unread: Arc<AtomicBool>,
    /// Set when the writing half has been closed.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Taken in since then.
    bytes: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.deadline.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.unread.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(LINGER_MS))));
        let mut piece = [std::mem::MaybeUninit::uninit(); 8 * 1024];
        while deadline.as_mut().poll(cx).is_pending() && this.bytes < LINGER_BYTES {
            let mut buffer = ReadBuf::uninit(&mut piece);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => this.bytes += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| Error::invalid("config.invalid", format!("{}: {error}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(|certificates| certificates.collect::<std::result::Result<_, _>>())
        .map_err(|error| wrong(cert, &error))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("the TLS provider does not know the protocol versions").caused_by(error))?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| wrong(cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
