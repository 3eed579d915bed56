use std::io::Cursor;

use super::*;

const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const EM_386: u16 = 3;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;

const GLIBC: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
const MUSL: &[u8] = b"/lib/ld-musl-x86_64.so.1\0";
/// namesz, descsz, type, name, desc
const GO_NOTE: &[u8] = b"\x04\0\0\0\x04\0\0\0\x04\0\0\0Go\0\0abcd";
const ABI_NOTE: &[u8] = b"\x04\0\0\0\x04\0\0\0\x01\0\0\0GNU\0abcd";

/// A 64-bit little-endian ELF file: header, program headers, and what they point to.
fn elf64(kind: u16, machine: u16, segments: &[(u32, &[u8])]) -> Vec<u8> {
    const HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;
    let count = u16::try_from(segments.len()).unwrap();
    // Where what the segments hold begins.
    let mut offset = u64::from(HEADER.strict_add(PROGRAM_HEADER.strict_mul(count)));
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(kind.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes()); // e_version
    file.extend(0_u64.to_le_bytes()); // e_entry
    file.extend(u64::from(HEADER).to_le_bytes()); // e_phoff
    file.extend([0; 8]); // e_shoff
    file.extend([0; 4]); // e_flags
    file.extend(HEADER.to_le_bytes());
    file.extend(PROGRAM_HEADER.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend([0; 6]); // no sections
    let mut data = Vec::<u8>::new();
    for (kind, octets) in segments {
        let len = u64::try_from(octets.len()).unwrap();
        file.extend(kind.to_le_bytes());
        file.extend([0; 4]); // p_flags
        file.extend(offset.to_le_bytes());
        file.extend([0; 16]); // p_vaddr, p_paddr
        file.extend(len.to_le_bytes()); // p_filesz
        file.extend(len.to_le_bytes()); // p_memsz
        file.extend(4_u64.to_le_bytes()); // p_align
        data.extend(*octets);
        offset = offset.strict_add(len);
    }
    file.extend(data);
    file
}

/// A 32-bit one without segments.
fn elf32(machine: u16) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(ET_EXEC.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.resize(52, 0);
    file
}

fn read(file: &[u8]) -> Result<Image, String> {
    Image::read(Cursor::new(file))
}

fn obstacle(file: &[u8]) -> Option<Obstacle> {
    let own = read(&elf64(ET_DYN, EM_X86_64, &[(PT_INTERP, GLIBC)])).unwrap();
    read(file).unwrap().obstacle(&own)
}

#[test]
fn a_dynamic_program_of_glibc_is_reached() {
    for kind in [ET_EXEC, ET_DYN] {
        let file = elf64(kind, EM_X86_64, &[(PT_NOTE, ABI_NOTE), (PT_INTERP, GLIBC)]);
        assert_eq!(obstacle(&file), None);
    }
    let nix = b"/nix/store/abc-glibc-2.40/lib/ld-linux-x86-64.so.2\0";
    assert_eq!(
        obstacle(&elf64(ET_DYN, EM_X86_64, &[(PT_INTERP, nix)])),
        None
    );
}

#[test]
fn what_ld_preload_does_not_reach_is_known_by_its_headers() {
    let of = |machine, segments| obstacle(&elf64(ET_DYN, machine, segments));
    assert_eq!(of(EM_X86_64, &[]), Some(Obstacle::Static));
    assert_eq!(
        of(EM_X86_64, &[(PT_NOTE, ABI_NOTE)]),
        Some(Obstacle::Static)
    );
    let musl = Obstacle::Loader("/lib/ld-musl-x86_64.so.1".into());
    assert_eq!(of(EM_X86_64, &[(PT_INTERP, MUSL)]), Some(musl));
    let go = &[(PT_INTERP, GLIBC), (PT_NOTE, GO_NOTE)];
    assert_eq!(of(EM_X86_64, go), Some(Obstacle::Go));
    assert_eq!(
        of(EM_AARCH64, &[(PT_INTERP, GLIBC)]),
        Some(Obstacle::Machine(EM_AARCH64))
    );
    assert_eq!(obstacle(&elf32(EM_386)), Some(Obstacle::Class(32)));
    assert_eq!(obstacle(&elf32(EM_X86_64)), Some(Obstacle::Class(32))); // the x32 ABI
}

#[test]
fn no_prefix_and_no_changed_octet_of_a_file_does_harm() {
    let file = elf64(ET_DYN, EM_X86_64, &[(PT_NOTE, GO_NOTE), (PT_INTERP, GLIBC)]);
    for len in 0..file.len() {
        let _either = read(&file[..len]);
    }
    for place in 0..file.len() {
        for octet in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[place] = octet;
            let _either = read(&changed);
        }
    }
}

#[test]
fn headers_that_point_past_the_end_are_an_error() {
    let mut file = elf64(ET_DYN, EM_X86_64, &[(PT_INTERP, GLIBC)]);
    file.truncate(file.len().strict_sub(GLIBC.len()));
    assert!(read(&file).is_err());
    assert!(read(b"\x7fELF").is_err());
    // PT_INTERP without its NUL
    assert!(
        read(&elf64(
            ET_DYN,
            EM_X86_64,
            &[(PT_INTERP, b"/lib64/ld-linux")]
        ))
        .is_err()
    );
}

#[test]
fn this_very_program_is_one_that_is_reached() {
    let own = Image::own().unwrap();
    assert_eq!(own.obstacle(&own), None);
    assert!(own.is_of_kind(&own));
}

#[test]
fn privileges_of_another_user_keep_the_shim_out() {
    let own = (1000, 100);
    for (file, expected) in [
        ((0o100755, 0, 0), false),
        ((0o104755, 0, 0), true),
        ((0o104755, 1000, 0), false), // gains nothing
        ((0o102755, 0, 0), true),
        ((0o102745, 0, 0), false), // mandatory locking
        ((0o102755, 0, 100), false),
        ((0o106755, 1000, 100), false),
        ((0o106755, 1000, 0), true),
    ] {
        assert_eq!(sets_id(file, own), expected, "{file:?}");
    }
    assert_eq!(privilege(Path::new("/proc/self/exe")).unwrap(), None);
    privilege(Path::new("/no/such/file")).unwrap_err();
}
