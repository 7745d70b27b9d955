//! How the kernel lays readings out in the buffer of an IIO device.

use crate::source::SourceError;

/// One number in a scan: `le:s16/16>>0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanType {
    big_endian: bool,
    signed: bool,
    bits: u32,
    /// Bytes in the buffer: 1, 2, 4 or 8.
    bytes: usize,
    shift: u32,
}

impl ScanType {
    /// Reads `[be|le]:[s|u]BITS/STORAGE>>SHIFT`; `None` for what is more than one number (`X4`), or nonsense.
    pub fn parse(text: &str) -> Option<ScanType> {
        let (order, rest) = text.trim().split_once(':')?;
        let big_endian = match order {
            "be" => true,
            "le" => false,
            _ => return None,
        };
        let signed = match rest.get(..1)? {
            "s" => true,
            "u" => false,
            _ => return None,
        };
        let (bits, rest) = rest[1..].split_once('/')?;
        let (storage, shift) = rest.split_once(">>").unwrap_or((rest, "0"));
        let (bits, storage, shift) = (bits.parse::<u32>().ok()?, storage.parse::<usize>().ok()?, shift.parse().ok()?);
        let fits = matches!(storage, 8 | 16 | 32 | 64) && bits >= 1 && shift < 64 && (bits + shift) as usize <= storage;
        fits.then_some(ScanType { big_endian, signed, bits, bytes: storage / 8, shift })
    }

    /// The number in `bytes`, of which there must be as many as it takes.
    fn number(self, bytes: &[u8]) -> i64 {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let all = if self.big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) };
        // The wanted bits to the top, and down again with their sign.
        let top = all >> self.shift << (64 - self.bits);
        if self.signed { (top as i64) >> (64 - self.bits) } else { (top >> (64 - self.bits)) as i64 }
    }
}

/// Where the wanted numbers lie in a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset and type of each wanted number, in the order in which they are wanted.
    numbers: Vec<(usize, ScanType)>,
    time: Option<(usize, ScanType)>,
    /// Bytes of a scan.
    pub bytes: usize,
}

impl Layout {
    /// The layout of `wanted` elements, `(index, type)` in the order in which their numbers are to come, and of the
    /// timestamp's element.
    ///
    /// # Errors
    /// [`SourceError::File`] for a scan of nothing.
    pub fn new(path: &str, wanted: &[(u32, ScanType)], time: Option<(u32, ScanType)>) -> Result<Layout, SourceError> {
        let mut elements: Vec<_> = wanted.iter().copied().enumerate().map(|(place, e)| (e, Some(place))).collect();
        elements.extend(time.map(|e| (e, None)));
        elements.sort_by_key(|((index, _), _)| *index);
        let mut layout = Layout { numbers: wanted.iter().map(|(_, t)| (0, *t)).collect(), time: None, bytes: 0 };
        for ((_, scan_type), place) in elements {
            // Every element begins at a multiple of its own size.
            let offset = layout.bytes.next_multiple_of(scan_type.bytes);
            layout.bytes = offset + scan_type.bytes;
            match place {
                Some(place) => layout.numbers[place].0 = offset,
                None => layout.time = Some((offset, scan_type)),
            }
        }
        let all = layout.numbers.iter().chain(&layout.time);
        let Some(largest) = all.map(|(_, t)| t.bytes).max() else {
            return Err(SourceError::file(path, "no channel of its buffer is wanted", "name some with ?channels="));
        };
        layout.bytes = layout.bytes.next_multiple_of(largest);
        Ok(layout)
    }

    /// The wanted numbers of one scan.
    pub fn numbers<'s>(&'s self, scan: &'s [u8]) -> impl Iterator<Item = i64> + 's {
        self.numbers.iter().map(|(offset, t)| t.number(&scan[*offset..offset + t.bytes]))
    }

    /// When the scan was taken, in nanoseconds of some clock of the kernel's.
    pub fn time(&self, scan: &[u8]) -> Option<i64> {
        self.time.map(|(offset, t)| t.number(&scan[offset..offset + t.bytes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ScanType {
        ScanType::parse(text).expect("a type")
    }

    #[test]
    fn numbers_are_taken_out_of_their_bytes() {
        assert_eq!(of("le:s16/16>>0").number(&[0xFE, 0xFF]), -2);
        assert_eq!(of("be:s16/16>>0\n").number(&[0xFF, 0xFE]), -2);
        assert_eq!(of("le:s12/16>>4").number(&[0xF0, 0x7F]), 0x7FF);
        assert_eq!(of("le:s12/16>>4").number(&[0x0F, 0x80]), -0x800);
        assert_eq!(of("be:u24/32>>8").number(&[0xFF, 0, 1, 9]), 0xFF_0001);
        assert_eq!(of("le:s64/64>>0").number(&(-5i64).to_le_bytes()), -5);
        assert_eq!(of("le:u8/8").number(&[200]), 200);
    }

    #[test]
    fn elements_lie_at_multiples_of_their_sizes_in_the_order_of_their_indices() {
        // Wanted as z, x; the timestamp comes last in the scan.
        let wanted = [(2, of("le:s16/16>>0")), (0, of("le:s16/16>>0"))];
        let layout = Layout::new("d", &wanted, Some((3, of("le:s64/64>>0")))).expect("a layout");
        let mut scan = vec![1, 0, 7, 0, 9, 9, 9, 9];
        scan.extend(12345i64.to_le_bytes());
        assert_eq!((layout.bytes, layout.time(&scan)), (16, Some(12345)));
        assert_eq!(layout.numbers(&scan).collect::<Vec<_>>(), [7, 1]);
        let odd = [(0, of("le:u8/8>>0")), (1, of("le:s32/32>>0")), (2, of("le:u8/8>>0"))];
        let layout = Layout::new("d", &odd, None).expect("a layout");
        assert_eq!(layout.bytes, 12);
        assert_eq!(layout.numbers(&[3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0]).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(Layout::new("d", &[], None).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_type_or_none(
            text in "(le|be)?:?[su]?[0-9]{0,3}/?[0-9]{0,3}(X[0-9])?(>>[0-9]{0,3})?",
            bytes in proptest::array::uniform8(proptest::num::u8::ANY),
        ) {
            if let Some(t) = ScanType::parse(&text) {
                t.number(&bytes[..t.bytes]);
            }
        }
    }
}
