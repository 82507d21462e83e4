//! Reads a library as a file, without running any of it: is it one, is it whole, is it for this machine, and which
//! consumers does it define itself.

use abi_stable::library::{AbiHeader, LibHeader};
use object::{
    Endianness, ReadRef, elf,
    read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym},
};

use super::{PluginFault, locate::nearest_names};

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Image {
    exports: Vec<Export>,
    others: Vec<(String, Other)>,
}

/// A consumer that the library exports.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Export {
    symbol: String,
    /// Major and minor version of the abi_stable that wrote its header.
    abi_stable: (u32, u32),
}

/// What else a symbol of a library can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Imported,
    Function,
    Data,
}

/// The machine that plugins must be built for, as ELF numbers it.
#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;
#[cfg(target_arch = "riscv64")]
const MACHINE: elf::Machine = elf::EM_RISCV;

const ELF_HEADER: u64 = size_of::<elf::FileHeader64<Endianness>>() as u64;
/// An `AbiHeader` in the file: the magic string, then two numbers.
const ABI_HEADER: u64 = size_of::<AbiHeader>() as u64;

// === impl Image ===

impl Image {
    /// Reads the library in `data`.
    ///
    /// # Errors
    /// [`PluginFault::NotALibrary`], [`PluginFault::Truncated`] or [`PluginFault::WrongMachine`]. A library without
    /// consumers is no error here.
    pub fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Self, PluginFault> {
        let length = data.len().map_err(|()| not("a file that cannot be read"))?;
        expect_library(data, length)?;
        let header = elf::FileHeader64::<Endianness>::parse(data).map_err(broken)?;
        let endian = header.endian().map_err(broken)?;
        let reach = Reach { length };

        let table = u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
        reach.check(header.e_phoff(endian), table, "the table of segments")?;
        let segments = header.program_headers(endian, data).map_err(broken)?;
        for segment in segments {
            if segment.p_type(endian) != elf::PT_NULL {
                let (offset, size) = segment.file_range(endian);
                reach.check(offset, size, "a segment")?;
            }
        }
        let table = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
        reach.check(header.e_shoff(endian), table, "the table of sections")?;
        for section in header.section_headers(endian, data).map_err(broken)? {
            if section.sh_type(endian) != elf::SHT_NULL
                && let Some((offset, size)) = section.file_range(endian)
            {
                reach.check(offset, size, "a section")?;
            }
        }
        if is_program(segments, endian, data)? {
            return Err(not("a program"));
        }

        let mut image = Self::default();
        let sections = header.sections(endian, data).map_err(broken)?;
        let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).map_err(broken)?;
        for symbol in symbols.iter() {
            if symbol.is_local() || !matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED) {
                continue;
            }
            let Ok(name) = std::str::from_utf8(symbols.symbol_name(endian, symbol).map_err(broken)?) else {
                continue;
            };
            // Nobody can write such a name into settings.
            if name.is_empty() || name.contains(char::is_control) {
                continue;
            }
            if symbol.is_undefined(endian) {
                image.others.push((name.to_owned(), Other::Imported));
            } else if symbol.st_type() != elf::STT_OBJECT {
                image.others.push((name.to_owned(), Other::Function));
            } else {
                match abi_header(segments, endian, data, symbol) {
                    Some(abi_stable) => image.exports.push(Export {
                        symbol: name.to_owned(),
                        abi_stable,
                    }),
                    None => image.others.push((name.to_owned(), Other::Data)),
                }
            }
        }
        image.exports.sort_unstable_by(|a, b| a.symbol.cmp(&b.symbol));
        Ok(image)
    }

    /// The symbols of its consumers, sorted.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        self.exports.iter().map(|export| export.symbol.clone()).collect()
    }

    /// Whether `symbol` is a consumer that this host can open.
    ///
    /// # Errors
    /// [`PluginFault::NotAPlugin`], [`PluginFault::NoSuchSymbol`] or [`PluginFault::OtherAbiStable`].
    pub fn expect(&self, symbol: &str) -> Result<(), PluginFault> {
        let Some(export) = self.exports.iter().find(|export| export.symbol == symbol) else {
            let has = self.exports();
            let instead =
                self.others
                    .iter()
                    .find(|(name, _)| name == symbol)
                    .map(|(name, other)| match other {
                        Other::Imported => format!("`{name}` is a symbol that it takes from another library"),
                        Other::Function => format!("`{name}` is a function, not a consumer"),
                        Other::Data => format!("`{name}` is data, but no consumer"),
                    });
            if has.is_empty() && instead.is_none() {
                return Err(self.no_consumers());
            }
            let nearest = nearest_names(symbol, has.iter().map(String::as_str))
                .into_iter()
                .next();
            return Err(PluginFault::NoSuchSymbol {
                has,
                nearest,
                instead,
            });
        };
        let ours = (AbiHeader::VALUE.abi_major, AbiHeader::VALUE.abi_minor);
        if fits(export.abi_stable) {
            Ok(())
        } else {
            let text = |(major, minor)| format!("{major}.{minor}");
            Err(PluginFault::OtherAbiStable {
                expected: text(ours),
                found: text(export.abi_stable),
            })
        }
    }

    /// Whether it has a consumer at all.
    ///
    /// # Errors
    /// [`PluginFault::NotAPlugin`].
    pub fn expect_any(&self) -> Result<(), PluginFault> {
        if self.exports.is_empty() {
            Err(self.no_consumers())
        } else {
            Ok(())
        }
    }

    fn no_consumers(&self) -> PluginFault {
        let defined = self
            .others
            .iter()
            .filter(|(_, other)| *other != Other::Imported)
            .count();
        PluginFault::NotAPlugin {
            why: format!(
                "it is a shared library that exports {defined} symbols, and none of them is a consumer"
            ),
        }
    }
}

/// Checks that what a header announces lies inside the file.
struct Reach {
    length: u64,
}

impl Reach {
    fn check(&self, offset: u64, size: u64, what: &str) -> Result<(), PluginFault> {
        let needed = offset.saturating_add(size);
        if needed <= self.length {
            return Ok(());
        }
        Err(PluginFault::Truncated {
            length: self.length,
            needed,
            what: what.to_owned(),
        })
    }
}

/// The identification at the head of the file: ELF, of this machine, a shared object.
fn expect_library<'data, R: ReadRef<'data>>(data: R, length: u64) -> Result<(), PluginFault> {
    let head = data
        .read_bytes_at(0, length.min(512))
        .map_err(|()| not("a file that cannot be read"))?;
    if !head.starts_with(&elf::ELFMAG) {
        return Err(not(kind_of(head)));
    }
    if length < ELF_HEADER {
        return Err(PluginFault::Truncated {
            length,
            needed: ELF_HEADER,
            what: "the ELF header".into(),
        });
    }
    let little = head[5] == elf::ELFDATA2LSB.0;
    let half = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }
    };
    let (class, kind, machine) = (head[4], half(16), elf::Machine(half(18)));
    let expected = if cfg!(target_endian = "little") {
        elf::ELFDATA2LSB
    } else {
        elf::ELFDATA2MSB
    };
    if machine != MACHINE || class != elf::ELFCLASS64.0 || head[5] != expected.0 {
        let bits = if class == elf::ELFCLASS64.0 { 64 } else { 32 };
        let order = if head[5] == expected.0 {
            ""
        } else {
            ", of the other byte order"
        };
        return Err(PluginFault::WrongMachine {
            found: format!("{} ({bits} bit{order})", machine_name(machine)),
            expected: format!("{} (64 bit)", machine_name(MACHINE)),
        });
    }
    match elf::FileType(kind) {
        elf::ET_DYN => Ok(()),
        elf::ET_EXEC => Err(not("a program")),
        elf::ET_REL => Err(not("an object file that was not linked")),
        elf::ET_CORE => Err(not("a core dump")),
        _ => Err(not("an ELF file of an unknown type")),
    }
}

/// A position-independent program is an `ET_DYN` too; the loader refuses it by this flag.
fn is_program<'data, R: ReadRef<'data>>(
    segments: &[elf::ProgramHeader64<Endianness>],
    endian: Endianness,
    data: R,
) -> Result<bool, PluginFault> {
    for segment in segments {
        for entry in segment.dynamic(endian, data).map_err(broken)?.unwrap_or_default() {
            let (tag, value) = (entry.d_tag(endian), entry.d_val(endian));
            if tag == elf::DT_NULL {
                break;
            }
            if tag == elf::DT_FLAGS_1 {
                return Ok(value & elf::DF_1_PIE.0 != 0);
            }
        }
    }
    Ok(false)
}

/// The abi_stable version in the header at `symbol`, if there is one.
fn abi_header<'data, R: ReadRef<'data>>(
    segments: &[elf::ProgramHeader64<Endianness>],
    endian: Endianness,
    data: R,
    symbol: &elf::Sym64<Endianness>,
) -> Option<(u32, u32)> {
    let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
    let segment = segments.iter().find(|segment| {
        let begin = segment.p_vaddr(endian);
        let inside =
            |at: Option<u64>| at.is_some_and(|at| at <= begin.saturating_add(segment.p_filesz(endian)));
        segment.p_type(endian) == elf::PT_LOAD
            && begin <= address
            && inside(address.checked_add(size.max(ABI_HEADER)))
    })?;
    let at = segment
        .p_offset(endian)
        .checked_add(address - segment.p_vaddr(endian))?;
    let header = data.read_bytes_at(at, ABI_HEADER).ok()?;
    let numbers = header.strip_prefix(&AbiHeader::VALUE.magic_string)?;
    let number = |at: usize| Some(u32::from_ne_bytes(numbers.get(at..at + 4)?.try_into().ok()?));
    let version = (number(0)?, number(4)?);
    // Another abi_stable may have another LibHeader: it is listed, and refused by its version.
    (size == size_of::<LibHeader>() as u64 || !fits(version)).then_some(version)
}

/// abi_stable's own rule of what fits, by semantic versioning.
fn fits((major, minor): (u32, u32)) -> bool {
    let ours = AbiHeader::VALUE;
    major == ours.abi_major && (major != 0 || minor == ours.abi_minor)
}

fn not(what: impl Into<String>) -> PluginFault {
    PluginFault::NotALibrary { what: what.into() }
}

fn broken(error: object::read::Error) -> PluginFault {
    not(format!("a damaged ELF file ({error})"))
}

/// What a file that is no ELF is, by its first bytes.
fn kind_of(head: &[u8]) -> String {
    let known: [(&[u8], &str); 8] = [
        (b"#!", "a script"),
        (b"!<arch>\n", "a static library (an archive)"),
        (b"MZ", "a Windows library or program"),
        (b"\xcf\xfa\xed\xfe", "a macOS library or program"),
        (b"\xca\xfe\xba\xbe", "a macOS library or Java class"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\0asm", "a WebAssembly module"),
    ];
    if head.is_empty() {
        return "empty".into();
    }
    if let Some((_, what)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*what).into();
    }
    // The head may end within a character.
    let text = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    if text && !head.contains(&0) {
        return "text".into();
    }
    let first: Vec<String> = head.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("data of an unknown kind (it begins with {})", first.join(" "))
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86-64".into(),
        elf::EM_386 => "x86".into(),
        elf::EM_AARCH64 => "AArch64".into(),
        elf::EM_ARM => "ARM".into(),
        elf::EM_RISCV => "RISC-V".into(),
        elf::EM_PPC64 => "PowerPC64".into(),
        elf::EM_S390 => "s390".into(),
        elf::Machine(other) => format!("ELF machine {other}"),
    }
}
