"""SipHash against its published vectors and a twin written from the paper's pseudocode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.csrc._core import siphash64, siphash128, stable_hash

KEY = bytes(range(16))

# The authors' vectors_sip64 and vectors_sip128: KEY, inputs of 0 to 63 bytes 00 01 02 ...
VECTORS_64 = bytes.fromhex("""
    310e0edd47db6f72fd67dc93c539f8745a4fa9d909806c0d2d7efbd796666785b7877127e09427cf8da699cd64557618
    cee3fe586e46c9cb37d1018bf50002ab6224939a79f5f593b0e4a90bdf82009ef3b9dd94c5bb5d7aa7ad6b22462fb3f4
    fbe50e86bc8f1e75903d84c02756ea14eef27a8e90ca23f7e545be4961ca29a1db9bc2577fcc2a3f9447be2cf5e99a69
    9cd38d96f0b3c14bbd6179a71dc96dbb98eea21af25cd6bec7673b2eb0cbf2d0883ea3e395675393c8ce5ccd8c030ca8
    94af49f6c650adb8eab8858ade92e1bcf315bb5bb835d817adcf6b0763612e2fa5c91da7acaa4dde716595876650a2a6
    28ef495c53a387ad42c341d8fa92d832ce7cf2722f512771e37859f94623f3a7381205bb1ab0e012ae97a10fd434e015
    b4a31508beff4d3181396229f09079024d0cf49ee5d4dcca5c73336a76d8bf9ad0a704536ba93e0e925958fcd6420cad
    a915c29bc8067318952b79f3bc0aa6d4f21df2e41d4535f987577519048f53a910a56cf5dfcd9adbeb75095ccd986cd0
    51a9cb9ecba312e696afadfc2ce666c772fe52975a4364ee5a1645b276d592a1b274cb8ebf87870a6f9bb4203de7b381
    eaecb2a30b22a87f9924a43cc1315724bd838d3aafbf8db70b1a2a3265d51aea135079a3231ce660932b2846e4d70666
    e1915f5cb1eca46cf325965ca16d629f575ff28e60381be5724506eb4c328a95
""")
VECTORS_128 = bytes.fromhex("""
    a3817f04ba25a8e66df67214c7550293da87c1d86b99af44347659119b22fc458177228da4a45dc7fca38bdef60affe4
    9c70b60c5267a94e5f33b6b02985ed51f88164c12d9c8faf7d0f6e7c7bcd55791368875980776f8854527a07690e9627
    14eeca338b208613485ea0308fd7a15ea1f1ebbed8dbc153c0b84aa61ff082393b62a9ba6258f5610f83e264f31497b4
    264499060ad9baabc47f8b02bb6d71ed00110dc378146956c95447d3f3d0fbba0151c568386b6677a2b4dc6f81e5dc18
    d626b266905ef35882634df68532c1259869e247e9c08b10d029934fc4b952f731fcefac66d7de9c7ec7485fe4494902
    5493e99933b0a8117e08ec0f97cfc3d96ee2a4ca67b054bbfd3315bf85230577473d06e8738db89854c066c47ae47740
    a426e5e423bf4885294da481feaef72378017731cf65fab074d5208952512eb19e25fc833f2290733e9344a5e83839eb
    568e495abe525a218a2214cd3e071d124a29b54552d16b9a469c10528eff0aaec9d184ddd5a9f5e0cf8ce29a9abf691c
    2db479ae78bd50d8882a8a178a6132ad8ece5f042d5e447b5051b9eacb8d8f6f9c0b53b4b3c307e87eaee08678141f66
    abf248af69a6eae4bfd3eb2f129eeb940664da1668574b88b935f3027358aef4aa4b9dc4bf337de90cd4fd3c467c6ab7
    ea5c7f471faf6bde2b1ad7d4686d22872939b0183223fafc1723de4f52c43d357c3956ca5eeafc3e363e9d556546eb68
    77c6077146f01c32b6b69d5f4ea9ffcf37a6986cb8847edf0925f0f1309b54dea705f0e69da9a8f907241a2e923c8cc8
    3dc47d1f29c448461e9e76ed904f67110d62bf01e6fc0e1a0d3c4751c5d3692b8c03468bca7c669ee4fd5e084bbee7b5
    528a5bb93baf2c9c4473cce5d0d22bd9df6a301e95c95dad97ae0cc8c6913bd8801189902c857f39e73591285e70b6db
    e617346ac9c231bb3650ae34ccca0c5b27d93437efb721aa401821dcec5adf8989237d9ded9c5e78d8b1c9b166cc7342
    4a6d8091bf5e7d651189fa94a250b14c0e33f96055e7ae893ffc0e3dcf492902e61c432b720b19d18ec8d84bdc63151b
    f7e5aef549f782cf379055a608269b16438d030fd0b7a54fa837f2ad201a6403a590d3ee4fbf04e3247e0d27f286423f
    5fe2c1a172fe93c4b15cd37caef9f5382c97325cbd06b36eb2133dd08b3a017c92c814227a6bca949ff0659f002ad39e
    dce850110bd8328cfbd50841d6911d8767f14984c7da791248e32bb5922583da1938f2cf72d54ee97e94166fa91d2a36
    74481e9646ed49fe0f6224301604698e57fca5de98a9d6d8006438d0583d8a1d9fecde1cefdc1cbed4763674d9575359
    e3040c00eb28f15366ca73cbd872e7407697009a6a831dfecca91c5993670f7a5853542321f567a005d547a4f04759bd
    5150d1772f50834a503e069a973fbd7c
""")

MASK = 2**64 - 1


def rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & MASK


def rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)


def absorbed(key: bytes, data: bytes, wide: bool) -> list[int]:
    """The state after the message, before finalisation."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    constants = (b"somepseu", b"dorandom", b"lygenera", b"tedbytes")
    v = [k ^ int.from_bytes(c, "big") for k, c in zip((k0, k1, k0, k1), constants, strict=True)]
    v[1] ^= 0xEE if wide else 0
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(v, 2)
        v[0] ^= word
    return v


def twin(key: bytes, data: bytes, wide: bool) -> tuple[int, ...]:
    v = absorbed(key, data, wide)
    v[2] ^= 0xEE if wide else 0xFF
    rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    if not wide:
        return (first,)
    v[1] ^= 0xDD
    rounds(v, 4)
    return first, v[0] ^ v[1] ^ v[2] ^ v[3]


def little(*words: int) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


@pytest.mark.parametrize("length", range(64))
def test_published_vectors_hold(length: int) -> None:
    data = bytes(range(length))
    assert little(siphash64(KEY, data)) == VECTORS_64[8 * length : 8 * length + 8]
    assert little(*siphash128(KEY, data)) == VECTORS_128[16 * length : 16 * length + 16]


@given(key=st.binary(min_size=16, max_size=16), data=st.binary(max_size=300))
def test_any_key_and_message_hash_as_the_paper_says(key: bytes, data: bytes) -> None:
    assert (siphash64(key, data),) == twin(key, data, wide=False)
    assert siphash128(key, data) == twin(key, data, wide=True)


def test_stable_hash_never_changes() -> None:
    """These numbers are inside every trained snapshot; a change here breaks all of them."""
    assert stable_hash(b"") == 0xFE52E573B24B025C
    assert stable_hash(b"u42") == 0xF8852E01C17E0EEC
    assert stable_hash("\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode()) == 0x03C2DBF5D8F3C2B2
    assert stable_hash(b"item-000001") == 0x98464BB47863DC25


def test_stable_hash_is_siphash_under_its_public_key() -> None:
    assert stable_hash(b"anything") == siphash64(b"predawn.stable.1", b"anything")


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_keys_of_other_than_16_bytes_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"key: expected 16 bytes, got {length}"):
        siphash64(bytes(length), b"")
    with pytest.raises(ValueError, match="key: expected 16 bytes"):
        siphash128(bytes(length), b"")
