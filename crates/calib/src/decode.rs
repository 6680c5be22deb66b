//! Decoding of JPEG, PNG and BMP files to RGB of 8 or 16 bits under limits. Nothing is resized or normalised here.

use std::io::{Cursor, ErrorKind};

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use crate::error::CalibError;
use crate::resample::{Pixels, Size};

/// Bounds on what is read, so that a hostile or mistaken file costs an error and no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest product of width and height of an image.
    pub max_pixels: u64,
    /// Longest file, in bytes.
    pub max_file_bytes: u64,
}

impl Default for Limits {
    /// 2^27 pixels (134 million) and 2^28 bytes.
    fn default() -> Self {
        Self { max_pixels: 1 << 27, max_file_bytes: 1 << 28 }
    }
}

/// An image in memory: RGB, rows from the top, interleaved, at least one pixel. Of an image with 16-bit samples the
/// low bytes are kept apart, for those who want more than 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedImage {
    name: String,
    size: Size,
    rgb: Vec<u8>,
    low_bytes: Option<Vec<u8>>,
}

impl DecodedImage {
    /// Wraps pixels that are decoded already; `rgb` holds width · height · 3 bytes.
    ///
    /// # Errors
    /// [`CalibError::PixelCount`] if the length does not fit or the size is empty.
    pub fn from_rgb(name: impl Into<String>, size: Size, rgb: Vec<u8>) -> Result<Self, CalibError> {
        let name = name.into();
        let needed = size.pixels().checked_mul(3);
        if size.is_empty() || needed != Some(rgb.len() as u64) {
            return Err(CalibError::PixelCount { name, size, bytes: rgb.len() });
        }
        Ok(Self { name, size, rgb, low_bytes: None })
    }

    /// Decodes the content of a JPEG, PNG or BMP file; the format is told from the content, `name` serves messages.
    ///
    /// Grey and palette images are expanded, alpha is dropped without compositing, CMYK JPEG is converted without a
    /// colour profile and EXIF orientation is not applied.
    ///
    /// # Errors
    /// [`CalibError::ImageTooLarge`] before anything is allocated for the pixels, else [`CalibError::Decode`].
    pub fn decode(name: impl Into<String>, bytes: &[u8], limits: Limits) -> Result<Self, CalibError> {
        let name = name.into();
        let decoded = decode_any(&name, bytes, limits)?;
        let size = Size { width: decoded.width() as usize, height: decoded.height() as usize };
        match decoded.color() {
            ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
                let samples = decoded.into_rgb16().into_raw();
                let high = samples.iter().map(|sample| (sample >> 8) as u8).collect();
                let low_bytes = Some(samples.iter().map(|sample| *sample as u8).collect());
                Ok(Self { low_bytes, ..Self::from_rgb(name, size, high)? })
            }
            _ => Self::from_rgb(name, size, decoded.into_rgb8().into_raw()),
        }
    }

    /// What messages call it: the path for an image of an [`ImageFolder`](crate::ImageFolder), else the name given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// 8-bit samples, R G B of the top left pixel first. Those of a 16-bit image are its high bytes, not the nearest
    /// 8-bit values: that is what Pillow keeps of 16-bit RGB.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Sample `at` of [`rgb`](Self::rgb), which must exist, with all its bits as a part of the largest one: 0 to 1,
    /// computed in `f64`.
    pub(crate) fn fraction(&self, at: usize) -> f64 {
        match &self.low_bytes {
            None => f64::from(self.rgb[at]) / 255.0,
            Some(low) => f64::from(u16::from_be_bytes([self.rgb[at], low[at]])) / 65535.0,
        }
    }

    pub(crate) fn pixels(&self) -> Pixels<'_, 3> {
        Pixels { size: self.size, data: self.rgb.as_chunks().0 }
    }
}

fn decode_any(name: &str, bytes: &[u8], limits: Limits) -> Result<DynamicImage, CalibError> {
    let damaged = |cause: String| CalibError::Decode { name: name.to_owned(), cause };
    let format = recognise(bytes).ok_or_else(|| damaged("the content is not JPEG, PNG or BMP".to_owned()))?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err(damaged("the file is cut short, it has no end-of-image marker".to_owned()));
    }
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder = reader.into_decoder().map_err(|e| damaged(cause(&e)))?;
    let (width, height) = decoder.dimensions();
    check_size(name, Size { width: width as usize, height: height as usize }, limits)?;
    decoder.set_limits(allocation_limits(limits)).map_err(|e| damaged(cause(&e)))?;
    DynamicImage::from_decoder(decoder).map_err(|e| damaged(cause(&e)))
}

fn cause(error: &ImageError) -> String {
    match error {
        ImageError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => "the file is cut short".to_owned(),
        other => other.to_string(),
    }
}

fn recognise(bytes: &[u8]) -> Option<ImageFormat> {
    let known = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp];
    image::guess_format(bytes).ok().filter(|format| known.contains(format))
}

/// Number of bytes from which [`begins_like_an_image`] tells.
pub(crate) const HEAD_BYTES: usize = 18;

/// Whether content that begins with `head` is meant to be JPEG, PNG or BMP.
///
/// `BM` alone may also begin a text, so that the length of the header that must follow is looked at too.
pub(crate) fn begins_like_an_image(head: &[u8]) -> bool {
    const BMP_HEADER_LENGTHS: [u32; 8] = [12, 16, 40, 52, 56, 64, 108, 124];
    match recognise(head) {
        Some(ImageFormat::Bmp) => head
            .get(14..HEAD_BYTES)
            .and_then(|bytes| bytes.first_chunk())
            .is_some_and(|length| BMP_HEADER_LENGTHS.contains(&u32::from_le_bytes(*length))),
        format => format.is_some(),
    }
}

fn check_size(name: &str, size: Size, limits: Limits) -> Result<(), CalibError> {
    if size.pixels() <= limits.max_pixels {
        return Ok(());
    }
    Err(CalibError::ImageTooLarge { name: name.to_owned(), size, limit: limits.max_pixels })
}

/// 16 bytes a pixel: four 16-bit samples and as much again for the decoder's own buffers.
fn allocation_limits(limits: Limits) -> image::Limits {
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(1 << 20));
    allowed
}

/// Whether an end-of-image marker follows the first scan: the decoder fills a missing end with grey and says nothing.
///
/// Segments before the scan are stepped over, because an embedded thumbnail has an end marker of its own.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        match *rest {
            [0xFF, START_OF_SCAN, ref scan @ ..] => return scan.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]),
            [0xFF, 0xFF, ..] => rest = &rest[1..],
            [0xFF, 0x01 | 0xD0..=0xD7, ..] => rest = &rest[2..],
            [0xFF, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(2 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, Instant};

    use image::ImageEncoder;
    use image::codecs::{bmp::BmpEncoder, jpeg::JpegEncoder, png::PngEncoder};

    use super::*;

    /// A 2x2 PNG of colour type 3 with a transparency chunk: red, green over blueish (1, 2, 3), green.
    pub(crate) const PALETTE_PNG: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x02\x02\x03\0\0\0\x0f\xd8\xe5\xb7\
        \0\0\0\x09PLTE\xff\0\0\0\x80\0\x01\x02\x03\xd1\x37\x0c\x16\0\0\0\x02tRNS\xff\0\xe5\xb7\x30\x4a\
        \0\0\0\x0cIDAT\x78\x9c\x63\x10\x60\x98\0\0\0\xc4\0\xa1\x16\x5c\xba\x96\0\0\0\0IEND\xae\x42\x60\x82";

    /// A PNG header that claims 65535x65535 RGB pixels, and nothing else.
    const BOMB_PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0\x39\x67\x4e\x07\
        \0\0\0\0IDAT\x35\xaf\x06\x1e";

    fn decode(bytes: &[u8]) -> Result<DecodedImage, CalibError> {
        DecodedImage::decode("x.png", bytes, Limits::default())
    }

    /// A 2x1 PNG; `samples` are its raw bytes.
    fn png(color: ColorType, samples: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(samples, 2, 1, color.into()).unwrap();
        bytes
    }

    fn photo() -> image::RgbImage {
        image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([(6 * x) as u8, (8 * y) as u8, (x * y % 256) as u8]))
    }

    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new(&mut bytes).encode_image(&photo()).unwrap();
        bytes
    }

    fn bmp() -> Vec<u8> {
        let mut bytes = Vec::new();
        BmpEncoder::new(&mut bytes).encode(photo().as_raw(), 40, 30, ColorType::Rgb8.into()).unwrap();
        bytes
    }

    #[test]
    fn every_pixel_type_becomes_rgb() {
        let wide = |values: &[u16]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
        let cases: &[(&str, Vec<u8>, [u8; 6])] = &[
            ("gray", png(ColorType::L8, &[7, 200]), [7, 7, 7, 200, 200, 200]),
            ("gray, transparent", png(ColorType::La8, &[7, 0, 200, 9]), [7, 7, 7, 200, 200, 200]),
            ("rgb", png(ColorType::Rgb8, &[1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]),
            ("rgb, transparent", png(ColorType::Rgba8, &[1, 2, 3, 0, 4, 5, 6, 128]), [1, 2, 3, 4, 5, 6]),
            ("16-bit gray", png(ColorType::L16, &wide(&[0x01FF, 0xFFFF])), [1, 1, 1, 255, 255, 255]),
            ("16-bit rgb", png(ColorType::Rgb16, &wide(&[0x01FF, 0x0280, 3, 4, 5, 0xFE00])), [1, 2, 0, 0, 0, 254]),
            ("16-bit rgba", png(ColorType::Rgba16, &wide(&[256, 512, 768, 0, 1024, 0, 0, 0])), [1, 2, 3, 4, 0, 0]),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(decode(bytes).unwrap().rgb(), expected, "{name}");
        }
        assert_eq!(decode(PALETTE_PNG).unwrap().rgb(), [255, 0, 0, 0, 128, 0, 1, 2, 3, 0, 128, 0]);
    }

    #[test]
    fn the_orientation_of_a_photo_is_not_applied() {
        let turned = b"\xFF\xE1\0\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let plain = jpeg();
        let image = decode(&[&plain[..2], turned, &plain[2..]].concat()).unwrap();
        assert_eq!(image, decode(&plain).unwrap());
    }

    #[test]
    fn sixteen_bits_are_kept() {
        let wide: Vec<u8> = [0x01FF_u16, 0xFFFF].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let image = decode(&png(ColorType::L16, &wide)).unwrap();
        assert_eq!([0, 2, 3].map(|at| image.fraction(at)), [511.0 / 65535.0, 511.0 / 65535.0, 1.0]);
        let narrow = decode(&png(ColorType::L8, &[1, 255])).unwrap();
        assert_eq!([0, 2, 3].map(|at| narrow.fraction(at)), [1.0 / 255.0, 1.0 / 255.0, 1.0]);
    }

    #[test]
    fn the_first_bytes_tell_an_image() {
        for (name, bytes) in [("png", PALETTE_PNG), ("jpeg", &jpeg()), ("bmp", &bmp())] {
            assert!(begins_like_an_image(&bytes[..HEAD_BYTES]), "{name}");
        }
        let others: [&[u8]; 4] = [b"", b"BM", b"BMW,3\nAudi,4\nOpel,5\n", b"GIF89a\x01\0\x01\0\0\0\0\0\0\0\0\0"];
        for bytes in others {
            assert!(!begins_like_an_image(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn the_content_decides_the_format() {
        assert_eq!(decode(&bmp()).unwrap().rgb(), photo().as_raw());
        let image = decode(&jpeg()).unwrap();
        assert_eq!((image.name(), image.size()), ("x.png", Size { width: 40, height: 30 }));
    }

    #[test]
    fn damage_is_an_error_that_names_file_and_cause() {
        let whole_png = png(ColorType::Rgb8, &[1, 2, 3, 4, 5, 6]);
        let mut flipped = whole_png.clone();
        flipped[45] ^= 0x55;
        let cases: &[(&str, &[u8], &str)] = &[
            ("empty", b"", "the content is not JPEG, PNG or BMP"),
            ("gif", b"GIF89a\x01\0\x01\0\0\0\0", "the content is not JPEG, PNG or BMP"),
            ("cut png", &whole_png[..50], "cut short"),
            ("bad checksum", &flipped, ""),
            ("cut jpeg", &jpeg()[..jpeg().len() / 2], "cut short"),
            ("jpeg without its last byte", &jpeg()[..jpeg().len() - 1], "cut short"),
            ("jpeg of two bytes", b"\xFF\xD8\xFF", "cut short"),
            ("cut bmp", &bmp()[..500], "cut short"),
        ];
        for (name, bytes, cause) in cases {
            let error = decode(bytes).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("cannot decode image x.png: ") && text.contains(cause), "{name}: {text}");
            assert!(error.hint().is_some(), "{name}");
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        for (name, bytes) in [("jpeg", jpeg()), ("png", PALETTE_PNG[..PALETTE_PNG.len() - 20].to_vec()), ("bmp", bmp())]
        {
            for length in (0..bytes.len()).step_by(7) {
                assert!(decode(&bytes[..length]).is_err(), "{name} cut to {length} bytes");
            }
        }
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_is_not_the_end() {
        let thumbnail = b"\xFF\xD8\xFF\xE1\0\x06\xFF\xDA\xFF\xD9";
        assert!(!jpeg_is_complete(thumbnail));
        assert!(!jpeg_is_complete(&[thumbnail.as_slice(), b"\xFF\xDA\0\x02abc"].concat()));
        assert!(jpeg_is_complete(&[thumbnail.as_slice(), b"\xFF\xFF\xDA\0\x02abc\xFF\xD9trailer"].concat()));
    }

    #[test]
    fn a_bomb_costs_nothing() {
        let start = Instant::now();
        let text = decode(BOMB_PNG).unwrap_err().to_string();
        assert_eq!(text, "image x.png has 65535x65535 pixels, the limit is 134217728 pixels");
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn the_pixel_limit_is_inclusive() {
        let bytes = png(ColorType::Rgb8, &[0; 6]);
        let limited = |max_pixels| DecodedImage::decode("x", &bytes, Limits { max_pixels, ..Limits::default() });
        assert!(limited(2).is_ok());
        assert!(matches!(limited(1), Err(CalibError::ImageTooLarge { limit: 1, .. })));
    }

    #[test]
    fn given_pixels_must_fit_their_size() {
        let size = Size { width: 2, height: 1 };
        assert!(DecodedImage::from_rgb("a", size, vec![0; 6]).is_ok());
        for (name, size, bytes) in
            [("short", size, 5), ("empty", Size::square(0), 0), ("huge", Size::square(usize::MAX), 0)]
        {
            let result = DecodedImage::from_rgb("a", size, vec![0; bytes]);
            assert!(matches!(result, Err(CalibError::PixelCount { .. })), "{name}");
        }
    }
}
