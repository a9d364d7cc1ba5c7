//! The data folder's lock: one process at a time writes to an embedded folder, and whoever is second learns who is first.

use crate::exit::{Exit, Failure, Outcome};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// The file's name within the data folder.
const NAME: &str = "lock";

/// Held as long as the process writes to the folder. The operating system lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder when it is missing and takes the lock for `purpose` (such as `serve`).
    /// Errors: `cli.folder_in_use` with the holder's process id and purpose; `cli.file` when the folder can't be used.
    pub(crate) fn take(folder: &Path, purpose: &str) -> Outcome<FolderLock> {
        std::fs::create_dir_all(folder).map_err(|e| Failure::file("cannot make the data folder", folder, &e))?;
        let path = folder.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Failure::file("cannot write to the data folder:", &path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let detail = format!(
                    "the data folder {} is in use by {}; stop that first, choose another folder with --data, or ask the running server over HTTP",
                    folder.display(),
                    holder(&mut file)
                );
                return Err(Failure::new(Exit::Refused, "cli.folder_in_use", detail));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::file("cannot lock", &path, &error)),
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{} {purpose}", std::process::id())).and_then(|()| file.sync_data());
        written.map_err(|e| Failure::file("cannot write", &path, &e))?;
        Ok(FolderLock { _file: file })
    }

    /// Who holds the folder's lock now, such as `process 4711 (serve)`; none when nobody does.
    pub(crate) fn held_by(folder: &Path) -> Option<String> {
        let mut file = OpenOptions::new().read(true).write(true).open(folder.join(NAME)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
            _ => None,
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(128).read_to_string(&mut text));
    match (read, text.split_once(' ')) {
        (Ok(_), Some((pid, purpose))) => format!("process {pid} (brandos {purpose})"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let folder = std::env::temp_dir().join(format!("brandos-lock-{}", std::process::id()));
        let first = FolderLock::take(&folder, "serve").expect("free");
        let refused = FolderLock::take(&folder, "import").expect_err("taken");
        assert_eq!((refused.exit, refused.code), (Exit::Refused, "cli.folder_in_use"));
        let who = format!("process {} (brandos serve)", std::process::id());
        assert!(refused.detail.contains(&who), "{}", refused.detail);
        assert_eq!(FolderLock::held_by(&folder), Some(who));
        drop(first);
        assert_eq!(FolderLock::held_by(&folder), None);
        FolderLock::take(&folder, "import").expect("free again");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
