//! Little-endian byte form of statistics; equal statistics have equal bytes.
//!
//! Versions, checksums and tensor names belong to the file that contains the records.

use super::moments::ImageSums;
use super::{ChannelStats, Extremes, TensorStats};
use crate::histogram::{DyadicHistogram, check_total};
use crate::{NumericsError, Range};

impl TensorStats {
    /// Appends the byte form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for count in [self.n, self.n_nan, self.n_inf, self.n_zero] {
            put_u64(out, count);
        }
        out.push(u8::from(self.extremes.is_some()));
        if let Some(extremes) = self.extremes {
            put_range(out, Some(extremes.range));
            put_u64(out, extremes.n_at_min);
            put_u64(out, extremes.n_at_max);
        }
        put_histogram(out, &self.histogram);
        put_u64(out, self.images.len() as u64);
        for (&image, &range) in &self.images {
            put_u64(out, image);
            put_range(out, range);
        }
        put_channels(out, self.channels.as_ref());
    }

    /// Reads what [`Self::encode`] wrote; `record` must hold exactly one record.
    ///
    /// # Errors
    /// [`NumericsError::DamagedRecord`] if the record is truncated, too long or contradicts itself.
    pub fn decode(record: &[u8]) -> Result<Self, NumericsError> {
        let mut reader = Reader { record, offset: 0 };
        let (n, n_nan, n_inf, n_zero) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let extremes = if reader.flag()? { Some(reader.extremes()?) } else { None };
        let histogram = reader.histogram()?;
        let mut stats = Self { n, n_nan, n_inf, n_zero, extremes, histogram, ..Self::new() };
        reader.images(&mut stats)?;
        stats.channels = reader.channels()?;
        if reader.offset != record.len() {
            return Err(reader.damaged("trailing bytes"));
        }
        check(&stats).map_err(|reason| reader.damaged(reason))?;
        Ok(stats)
    }
}

/// Far above any calibration, far below overflow when records are merged.
const MAX_VALUES: u64 = 1 << 56;

/// Whether the counts of decoded statistics agree with each other.
fn check(stats: &TensorStats) -> Result<(), &'static str> {
    if stats.n > MAX_VALUES {
        return Err("impossible number of values");
    }
    let excluded = [stats.n_nan, stats.n_inf, stats.n_zero];
    let countable = excluded.iter().try_fold(stats.n, |n, &count| n.checked_sub(count));
    let countable = countable.ok_or("more special values than values")?;
    check_total(&stats.histogram, countable)?;
    if (stats.n_finite() == 0) != stats.extremes.is_none() {
        return Err("extremes do not agree with the number of finite values");
    }
    if stats.extremes.is_some_and(|ends| ends.n_at_min.max(ends.n_at_max) > stats.n_finite()) {
        return Err("more extreme values than values");
    }
    check_channels(stats)
}

fn check_channels(stats: &TensorStats) -> Result<(), &'static str> {
    let Some(channels) = &stats.channels else { return Ok(()) };
    let total = channels.counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
    if total != Some(stats.n_finite()) {
        return Err("channel counts do not add up to the number of finite values");
    }
    let covered = channels.sums.nodes().try_fold(0u64, |sum, (_, level, _)| sum.checked_add(1 << level));
    if stats.images.is_empty() || covered != Some(stats.images.len() as u64) {
        return Err("image sums do not cover the images");
    }
    Ok(())
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// An absent range is written as two NaN.
fn put_range(out: &mut Vec<u8>, range: Option<Range>) {
    let (lo, hi) = range.map_or((f32::NAN, f32::NAN), |range| (range.lo(), range.hi()));
    out.extend_from_slice(&lo.to_le_bytes());
    out.extend_from_slice(&hi.to_le_bytes());
}

fn put_histogram(out: &mut Vec<u8>, histogram: &DyadicHistogram) {
    out.extend_from_slice(&histogram.exponent().unwrap_or(0).to_le_bytes());
    put_u64(out, histogram.occupied().count() as u64);
    for (bin, count) in histogram.occupied() {
        out.extend_from_slice(&(bin as i16).to_le_bytes());
        put_u64(out, count);
    }
}

fn put_channels(out: &mut Vec<u8>, channels: Option<&ChannelStats>) {
    put_u64(out, channels.map_or(0, ChannelStats::len) as u64);
    let Some(channels) = channels else { return };
    for (&count, &range) in channels.counts.iter().zip(&channels.ranges) {
        put_u64(out, count);
        put_range(out, range);
    }
    put_u64(out, channels.sums.nodes().len() as u64);
    for (start, level, sums) in channels.sums.nodes() {
        put_u64(out, start);
        out.push(level as u8);
        sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
    }
}

struct Reader<'a> {
    record: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn damaged(&self, reason: &'static str) -> NumericsError {
        NumericsError::DamagedRecord { offset: self.offset, reason }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], NumericsError> {
        let rest = &self.record[self.offset..];
        let bytes = rest.first_chunk::<N>().ok_or_else(|| self.damaged("truncated"))?;
        self.offset += N;
        Ok(*bytes)
    }

    fn u64(&mut self) -> Result<u64, NumericsError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn f32(&mut self) -> Result<f32, NumericsError> {
        self.bytes().map(f32::from_le_bytes)
    }

    fn i16(&mut self) -> Result<i16, NumericsError> {
        self.bytes().map(i16::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, NumericsError> {
        match self.bytes()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.damaged("flag is neither 0 nor 1")),
        }
    }

    /// A number of items that take at least `item_size` bytes each, checked against what is left.
    fn count(&mut self, item_size: usize) -> Result<usize, NumericsError> {
        let count = self.u64()?;
        let left = self.record.len() - self.offset;
        match usize::try_from(count) {
            Ok(count) if count <= left / item_size => Ok(count),
            _ => Err(self.damaged("more items than bytes left")),
        }
    }

    fn range(&mut self) -> Result<Option<Range>, NumericsError> {
        let (lo, hi) = (self.f32()?, self.f32()?);
        if lo.is_nan() && hi.is_nan() {
            return Ok(None);
        }
        Range::new(lo, hi).map(Some).map_err(|_| self.damaged("range is reversed or not finite"))
    }

    fn extremes(&mut self) -> Result<Extremes, NumericsError> {
        let range = self.range()?.ok_or_else(|| self.damaged("extremes without a range"))?;
        Ok(Extremes { range, n_at_min: self.u64()?, n_at_max: self.u64()? })
    }

    fn histogram(&mut self) -> Result<DyadicHistogram, NumericsError> {
        let exponent = self.i16()?;
        let pairs = self.count(10)?;
        if pairs == 0 {
            return Ok(DyadicHistogram::new());
        }
        let pairs = (0..pairs).map(|_| Ok((i32::from(self.i16()?), self.u64()?)));
        let pairs = pairs.collect::<Result<Vec<_>, NumericsError>>()?;
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) || pairs.iter().any(|&(_, count)| count == 0) {
            return Err(self.damaged("histogram bins are empty or not in order"));
        }
        DyadicHistogram::from_sparse(exponent, &pairs).map_err(|reason| self.damaged(reason))
    }

    fn images(&mut self, stats: &mut TensorStats) -> Result<(), NumericsError> {
        for _ in 0..self.count(16)? {
            let (image, range) = (self.u64()?, self.range()?);
            if stats.images.last_key_value().is_some_and(|(&last, _)| last >= image) {
                return Err(self.damaged("images are not in order"));
            }
            stats.images.insert(image, range);
        }
        Ok(())
    }

    fn channels(&mut self) -> Result<Option<ChannelStats>, NumericsError> {
        let channels = self.count(16)?;
        if channels == 0 {
            return Ok(None);
        }
        let mut stats = ChannelStats::new(channels);
        for channel in 0..channels {
            stats.counts[channel] = self.u64()?;
            stats.ranges[channel] = self.range()?;
        }
        stats.sums = self.sums(2 * channels)?;
        Ok(Some(stats))
    }

    fn sums(&mut self, len: usize) -> Result<ImageSums, NumericsError> {
        let mut sums = ImageSums::default();
        let mut end = 0;
        for _ in 0..self.count(9 + 8 * len)? {
            let (start, [level]) = (self.u64()?, self.bytes()?);
            if level > 63 || start < end || start % (1 << level) != 0 {
                return Err(self.damaged("image sums overlap"));
            }
            end = start.saturating_add(1 << level);
            let values = (0..len).map(|_| self.bytes().map(f64::from_le_bytes));
            sums.insert(start, u32::from(level), values.collect::<Result<_, _>>()?);
        }
        Ok(sums)
    }
}
