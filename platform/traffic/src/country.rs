//! Countries of addresses, out of a file in MaxMind's format (GeoLite2-Country, GeoIP2, DB-IP and others).

use kernel::{Error, Result};
use maxminddb::Reader;
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// All codes that there can be, one after the other, so that a code outlives the file that it was read from.
static CODES: LazyLock<String> = LazyLock::new(|| {
    let letters = || (b'A'..=b'Z').map(char::from);
    letters().flat_map(|first| letters().flat_map(move |second| [first, second])).collect()
});

/// Which country an address is in.
pub struct Countries(Reader<Vec<u8>>);

impl Countries {
    /// Reads the whole file into memory. Errors: `limits.unreadable_countries` when it can't be read or is of another format.
    pub fn read(path: &Path) -> Result<Countries> {
        let wrong = |why: String| {
            Error::unavailable("limits.unreadable_countries", format!("cannot read the countries in {}: {why}", path.display()))
        };
        let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if size > MAX_FILE {
            return Err(wrong("the file is larger than 256 MB".to_owned()));
        }
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        Reader::from_source(bytes).map(Countries).map_err(|error| wrong(error.to_string()))
    }

    /// The ISO 3166 code; none when the file does not know the address.
    pub fn of(&self, ip: IpAddr) -> Option<&'static str> {
        let found = self.0.lookup(crate::plain(ip)).ok()?;
        let path = [maxminddb::PathElement::Key("country"), maxminddb::PathElement::Key("iso_code")];
        let code: &str = found.decode_path(&path).ok().flatten()?;
        let [first @ b'A'..=b'Z', second @ b'A'..=b'Z'] = *code.as_bytes() else { return None };
        let at = (usize::from(first - b'A') * 26 + usize::from(second - b'A')) * 2;
        CODES.get(at..at + 2)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file that knows one network of IPv4: a branch of the tree for each of its bits, each with one way on and one to nowhere.
    pub(crate) fn file_of(network: [u8; 4], bits: u32, country: &str) -> Vec<u8> {
        let address = u32::from_be_bytes(network);
        let mut file = Vec::new();
        for bit in 0..bits {
            let on = if bit + 1 == bits { bits + 16 } else { bit + 1 };
            let ways = if address >> (31 - bit) & 1 == 0 { [on, bits] } else { [bits, on] };
            for way in ways {
                file.extend(&way.to_be_bytes()[1..]);
            }
        }
        let text = |text: &str| [&[0x40 | text.len() as u8], text.as_bytes()].concat();
        let short = |number: u16| [&[0xa2], &number.to_be_bytes()[..]].concat();
        file.extend([0; 16]);
        file.extend([vec![0xe1], text("country"), vec![0xe1], text("iso_code"), text(country)].concat());
        file.extend(b"\xab\xcd\xefMaxMind.com");
        let long = [&[0xc4], &bits.to_be_bytes()[..]].concat();
        let epoch = [&[0x08, 0x02], &1_700_000_000_u64.to_be_bytes()[..]].concat();
        for part in [
            vec![0xe9],
            [text("binary_format_major_version"), short(2)].concat(),
            [text("binary_format_minor_version"), short(0)].concat(),
            [text("build_epoch"), epoch].concat(),
            [text("database_type"), text("Test-Country")].concat(),
            [text("description"), vec![0xe0]].concat(),
            [text("ip_version"), short(4)].concat(),
            [text("languages"), vec![0x00, 0x04]].concat(),
            [text("node_count"), long].concat(),
            [text("record_size"), short(24)].concat(),
        ] {
            file.extend(part);
        }
        file
    }

    #[test]
    fn addresses_have_countries() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countries.mmdb");
        std::fs::write(&path, file_of([192, 0, 2, 0], 24, "DE")).unwrap();
        let countries = Countries::read(&path).unwrap();
        assert_eq!(countries.of("192.0.2.9".parse().unwrap()), Some("DE"));
        assert_eq!(countries.of("::ffff:192.0.2.9".parse().unwrap()), Some("DE"));
        assert_eq!(countries.of("192.0.3.9".parse().unwrap()), None);
        assert_eq!(countries.of("2001:db8::1".parse().unwrap()), None);
        std::fs::write(&path, b"nothing of the kind").unwrap();
        assert_eq!(Countries::read(&path).err().map(|error| error.code()), Some("limits.unreadable_countries"));
        assert_eq!(Countries::read(&folder.path().join("none")).err().map(|error| error.code()), Some("limits.unreadable_countries"));
    }
}
