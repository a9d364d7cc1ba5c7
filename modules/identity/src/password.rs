//! Argon2id, on threads made for blocking work, a bounded number at a time.

use argon2::password_hash::{Output, PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use kernel::{Error, Result, Rng};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Memory of one hash in KiB, its passes and its lanes: OWASP's second recommendation, about 20 ms and 19 MiB.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes worked on at once, each with its 19 MiB.
const AT_ONCE: usize = 2;
/// Hashes that wait or are worked on; whoever comes then is refused at once.
const WAITING: usize = 64;

/// Hashes and checks passwords.
pub struct Passwords {
    admitted: Semaphore,
    working: Arc<Semaphore>,
    /// What no password that anybody knows hashes to, checked when there is no account, so that its absence does not show in the time taken.
    decoy: String,
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within Argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The PHC string of `password`: costs 20 ms of this thread. Whoever is async uses [`Passwords::hash`].
pub fn hash_blocking(password: &str, rng: &dyn Rng) -> Result<String> {
    let mut salt = [0; 16];
    rng.fill(&mut salt);
    let salt = SaltString::encode_b64(&salt).map_err(|e| Error::internal(format!("a salt can't be encoded: {e}")))?;
    let hash =
        argon2().hash_password(password.as_bytes(), &salt).map_err(|e| Error::internal(format!("a password can't be hashed: {e}")))?;
    Ok(hash.to_string())
}

/// Random bytes in the form of a hash. Found by hashing something, it would cost the start of a server 20 ms and the 19 MiB, which stay with
/// the allocator.
fn decoy(rng: &dyn Rng) -> argon2::password_hash::Result<String> {
    let (mut salt, mut output) = ([0; 16], [0; 32]);
    rng.fill(&mut salt);
    rng.fill(&mut output);
    let salt = SaltString::encode_b64(&salt)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: argon2().params().try_into()?,
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(&output)?),
    };
    Ok(hash.to_string())
}

fn verify_blocking(password: &str, phc: &str) -> Result<bool> {
    let hash = PasswordHash::new(phc).map_err(|e| Error::internal(format!("a stored password hash can't be read: {e}")))?;
    match argon2().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(e) => Err(Error::internal(format!("a password can't be checked: {e}"))),
    }
}

impl Passwords {
    /// Hashes nothing.
    pub fn new(rng: &dyn Rng) -> Result<Passwords> {
        let decoy = decoy(rng).map_err(|e| Error::internal(format!("a decoy of a password's hash can't be made: {e}")))?;
        Ok(Passwords { admitted: Semaphore::new(WAITING), working: Arc::new(Semaphore::new(AT_ONCE)), decoy })
    }

    /// The PHC string to store. Errors: `identity.busy`.
    pub async fn hash(&self, password: String, rng: &Arc<dyn Rng>) -> Result<String> {
        let rng = rng.clone();
        self.work(move || hash_blocking(&password, &*rng)).await
    }

    /// Whether `password` is that of `phc`. Without one the answer is no, after as much work. Errors: `identity.busy`.
    pub async fn verify(&self, password: String, phc: Option<String>) -> Result<bool> {
        let known = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.decoy.clone());
        Ok(self.work(move || verify_blocking(&password, &phc)).await? && known)
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let busy = || Error::overloaded("identity.busy", "too many sign-ins at once; try again in a moment").retry_after_ms(2000);
        let _admitted = self.admitted.try_acquire().map_err(|_| busy())?;
        let working = self.working.clone().acquire_owned().await.map_err(|_| busy())?;
        // The permit goes along: a caller that hangs up doesn't make room while its hash is still worked on.
        let job = tokio::task::spawn_blocking(move || {
            let _working = working;
            work()
        });
        job.await.map_err(|e| Error::internal("a password's thread failed").caused_by(e))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::SystemRng;

    #[tokio::test]
    async fn passwords_are_checked() {
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        let passwords = Passwords::new(&*rng).unwrap();
        let hash = passwords.hash("correct horse".into(), &rng).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horsf".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), None).await.unwrap());
        let (decoy, hash_of) = (PasswordHash::new(&passwords.decoy).unwrap(), PasswordHash::new(&hash).unwrap());
        assert_eq!((decoy.algorithm, decoy.version, &decoy.params), (hash_of.algorithm, hash_of.version, &hash_of.params));
        assert_eq!(decoy.hash.unwrap().len(), hash_of.hash.unwrap().len());
        assert_ne!(hash, passwords.hash("correct horse".into(), &rng).await.unwrap());
    }
}
