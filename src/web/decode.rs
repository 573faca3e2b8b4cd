//! Unpacking an answer, within bounds whatever it holds.

use std::io::{Cursor, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Most bytes of each layer.
pub(super) const PLAIN_BYTES: usize = 10 << 20;
/// Most layers.
const LAYERS: usize = 2;

/// Why an answer is not unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// It is larger than it looks.
    #[error("it unpacks to more than {} MiB", PLAIN_BYTES >> 20)]
    Bomb,
    /// It is packed again and again.
    #[error("it is packed more than {LAYERS} times")]
    Layers,
    /// A packing that is not known.
    #[error("it is packed in a way that is not known here")]
    Unknown,
    /// It is not what it says.
    #[error("it cannot be unpacked: {0}")]
    Broken(String),
}

/// Undoes what `Content-Encoding` lists. Blocking; a few hundred milliseconds at most.
pub(super) fn unpacked(encodings: &str, body: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
    let layers: Vec<String> = encodings
        .split(',')
        .map(|one| one.trim().to_ascii_lowercase())
        .filter(|one| !one.is_empty() && one != "identity")
        .collect();
    if layers.len() > LAYERS {
        return Err(DecodeError::Layers);
    }
    // One after the other, each within its bound: a layer in between could be as large as it likes otherwise.
    layers.iter().rev().try_fold(body, |body, layer| match layer.as_str() {
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(Cursor::new(body))),
        // Servers send it with and without the frame that the standard wants.
        "deflate" if is_zlib(&body) => read(ZlibDecoder::new(Cursor::new(body))),
        "deflate" => read(DeflateDecoder::new(Cursor::new(body))),
        "br" => read(brotli_decompressor::Decompressor::new(Cursor::new(body), 4096)),
        _ => Err(DecodeError::Unknown),
    })
}

fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && (u16::from(*method) * 256 + u16::from(*flags)) % 31 == 0)
}

fn read(from: impl Read) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let most = PLAIN_BYTES as u64 + 1;
    from.take(most).read_to_end(&mut out).map_err(|e| DecodeError::Broken(e.to_string()))?;
    if out.len() > PLAIN_BYTES { Err(DecodeError::Bomb) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn layers_are_undone_in_their_order() {
        let text = b"some words".to_vec();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(&text).unwrap();
        assert_eq!(unpacked("", text.clone()), Ok(text.clone()));
        assert_eq!(unpacked("identity", text.clone()), Ok(text.clone()));
        assert_eq!(unpacked("GZIP", gzip(&text)), Ok(text.clone()));
        assert_eq!(unpacked("deflate", zlib.clone()), Ok(text.clone()));
        assert_eq!(unpacked("deflate", raw.finish().unwrap()), Ok(text.clone()));
        assert_eq!(unpacked("deflate, gzip", gzip(&zlib)), Ok(text));
        assert_eq!(unpacked("br", vec![0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03]), Ok(b"hello".to_vec()));
    }

    #[test]
    fn bombs_are_contained_in_every_layer() {
        let bomb = gzip(&vec![0; PLAIN_BYTES + 1]);
        assert!(bomb.len() < 20_000);
        assert_eq!(unpacked("gzip", bomb.clone()), Err(DecodeError::Bomb));
        // The layer in between is large, what comes out in the end is not.
        assert_eq!(unpacked("gzip, gzip", gzip(&gzip(&vec![0; PLAIN_BYTES + 1]))), Err(DecodeError::Bomb));
        assert_eq!(unpacked("gzip, gzip, gzip", bomb), Err(DecodeError::Layers));
        assert_eq!(unpacked("zstd", Vec::new()), Err(DecodeError::Unknown));
        assert!(matches!(unpacked("gzip", b"no gzip".to_vec()), Err(DecodeError::Broken(_))));
        assert!(matches!(unpacked("br", b"no brotli at all".to_vec()), Err(DecodeError::Broken(_))));
    }
}
