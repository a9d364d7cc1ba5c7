//! Files that commands bring in: opened plain or packed, read on a thread of their own, and written part by part meanwhile.

use crate::exit::{Exit, Failure, Outcome};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// Parts that are read ahead of the one that is being written.
const AHEAD: usize = 2;

/// Opens a file; gzip is told by its first two bytes. `read` is told the bytes of the file as they are read. Errors: `cli.file`.
pub(crate) fn open(path: &Path, read: impl FnMut(u64) + Send + 'static) -> Outcome<Box<dyn Read + Send>> {
    let file = File::open(path).map_err(|e| Failure::new(Exit::Usage, "cli.file", format!("cannot open {}: {e}", path.display())))?;
    let mut counted = BufReader::with_capacity(256 * 1024, Counted { inner: file, read });
    let head = counted.fill_buf().map_err(|e| Failure::file("cannot read", path, &e))?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) { Box::new(flate2::bufread::MultiGzDecoder::new(counted)) } else { Box::new(counted) })
}

/// Passes on what it reads and tells how much that was.
struct Counted<R, F> {
    inner: R,
    read: F,
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.read)(n as u64);
        Ok(n)
    }
}

/// Runs `read` on a thread of its own, which sends parts of a file, and `write` on each of them, a few behind. `read` ends when a part can't
/// be sent: the other side has gone away, and has its own reason to tell. Gives what `read` has given at its end.
/// Errors: the first of `write`, or else those of `read`.
pub(crate) async fn feed<P: Send + 'static, T: Send + 'static>(
    read: impl FnOnce(&mpsc::Sender<P>) -> Outcome<T> + Send + 'static,
    mut write: impl AsyncFnMut(P) -> Outcome,
) -> Outcome<T> {
    let (sender, mut parts) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking(move || read(&sender));
    let mut written = Ok(());
    while written.is_ok()
        && let Some(part) = parts.recv().await
    {
        written = write(part).await;
    }
    // The reader ends when nobody takes its parts any more.
    drop(parts);
    let read = reader.await.map_err(|e| Failure::new(Exit::Internal, "import.reader", format!("the reader ended by a panic: {e}")))?;
    written.and(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbers from 0 until nobody takes them, or up to `end`.
    fn numbers(end: u64, parts: &mpsc::Sender<u64>) -> Outcome<u64> {
        for n in 0..end {
            if parts.blocking_send(n).is_err() {
                return Ok(n);
            }
        }
        if end == 7 { Err(Failure::usage("the file is cut off")) } else { Ok(end) }
    }

    #[tokio::test]
    async fn parts_are_written_in_their_order_and_the_first_fault_is_told() {
        let mut sum = 0;
        let read = feed(
            |parts| numbers(100, parts),
            async |n| {
                sum = sum * 3 % 1_000_003 + n;
                Ok(())
            },
        );
        assert_eq!(read.await.unwrap(), 100);
        assert_eq!(sum, (0..100).fold(0, |sum, n| sum * 3 % 1_000_003 + n));

        let failed = feed(|parts| numbers(7, parts), async |_| Ok(())).await.unwrap_err();
        assert_eq!((failed.code, failed.detail.as_str()), ("cli.usage", "the file is cut off"));

        let mut taken = 0;
        let failed = feed(
            |parts| numbers(u64::MAX, parts),
            async |n| {
                taken = n;
                if n == 3 { Err(Failure::new(Exit::Refused, "test.refused", "three")) } else { Ok(()) }
            },
        );
        assert_eq!((failed.await.unwrap_err().code, taken), ("test.refused", 3));
    }
}
