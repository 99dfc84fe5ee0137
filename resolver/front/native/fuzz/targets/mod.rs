//! What is fuzzed: functions that take any bytes, and panic where a promise is broken.
//!
//! Each reads its input as it likes; what `seeds/` and `finds/` hold is replayed by this crate's own tests.

mod answers;
mod certificates;
mod connection;
mod framing;
mod metadata;
mod requests;
mod session;
mod unpacking;

pub use answers::answers;
pub use certificates::certificates;
pub use connection::connection;
pub use framing::framing;
pub use metadata::metadata;
pub use requests::requests;
pub use session::session;
pub use unpacking::unpacking;

/// An input that is taken piece by piece. What is not there is zeros, or less.
struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn some(&mut self, length: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        some
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// One field of a message: its number where it is a varint, its content where it is bytes.
#[derive(Clone, Copy)]
struct Field<'a> {
    tag: u64,
    number: u64,
    content: &'a [u8],
}

/// Reads a message as any library of protobuf does.
fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut at = message;
    while !at.is_empty() {
        let tag = number(&mut at)?;
        let mut value = 0;
        let length = match tag & 7 {
            0 => {
                value = number(&mut at)?;
                0
            }
            1 => 8,
            2 => usize::try_from(number(&mut at)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = at.split_at_checked(length)?;
        fields.push(Field { tag, number: value, content });
        at = rest;
    }
    Some(fields)
}

fn number(at: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..10 {
        let (octet, rest) = at.split_first()?;
        *at = rest;
        number |= u64::from(octet & 0x7F).checked_shl(7 * place)?;
        if *octet < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 8] = [
        ("answers", super::answers),
        ("certificates", super::certificates),
        ("connection", super::connection),
        ("framing", super::framing),
        ("metadata", super::metadata),
        ("requests", super::requests),
        ("session", super::session),
        ("unpacking", super::unpacking),
    ];

    /// Gives the inputs of a target that are kept in a folder, each with its name.
    fn kept(folder: &str, target: &str) -> Vec<(String, Vec<u8>)> {
        // There are two crates whose library this is.
        let fuzz = if cfg!(fuzzing) { "." } else { "fuzz" };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(fuzz).join(folder).join(target);
        let Ok(files) = folder.read_dir() else { return Vec::new() };
        let each = files.map(|file| file.expect("a file").path());
        each.map(|path| (path.display().to_string(), std::fs::read(&path).expect("a file"))).collect()
    }

    #[test]
    fn every_seed_holds_however_it_is_cut_off_or_changed() {
        for (name, target) in TARGETS {
            let seeds = kept("seeds", name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for (path, seed) in seeds {
                println!("{path}");
                for end in 0..=seed.len() {
                    target(&seed[..end]);
                }
                for at in 0..seed.len() {
                    for change in [1, 0x80, 0xFF] {
                        let mut changed = seed.clone();
                        changed[at] ^= change;
                        target(&changed);
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_found_once_stays_mended() {
        for (name, target) in TARGETS {
            for (path, find) in kept("finds", name) {
                println!("{path}");
                target(&find);
            }
        }
    }
}
