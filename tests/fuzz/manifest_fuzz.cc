// Whatever manifest a peer declares: decoding it allocates no more than it is
// long and ends in an error or in the one manifest that encodes to those bytes;
// and a round accepts it only if layout, base, coverage, sizes and sealing are
// those that the round demands, here worked out once more by hand.
//
// Input: [control] and then either bytes of a manifest, or edits of a good one
// ([field][choice]) and of its bytes ([place][value] after a field of 0xff).

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "coordinator/engine/upload_session.h"
#include "tests/fuzz/allocation_limit.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/test_upload.h"

namespace {

using consilium::FuzzInput;
using consilium::Require;
using consilium::RoundContext;
using consilium::UploadManifest;

// "shared" has 3 elements, the experts 4 and 300000 (two frames), the router 1.
constexpr std::string_view kLayout =
    "consilium-layout 1\n"
    "shared F32 3 a\n"
    "expert/0/0 F32 2x2 b\n"
    "expert/0/1 F32 300000 c\n"
    "router/0 F32 - d\n";
constexpr std::array<int64_t, 4> kElements = {3, 4, 300000, 1};
constexpr int64_t kMaxUpdateBytes = 1 << 20;

const RoundContext& Round(bool sealed) {
  static const auto* const on = new std::shared_ptr<const RoundContext>(
      consilium::MakeTestRound(kLayout, true, kMaxUpdateBytes));
  static const auto* const off = new std::shared_ptr<const RoundContext>(
      consilium::MakeTestRound(kLayout, false, kMaxUpdateBytes));
  return sealed ? **on : **off;
}

const UploadManifest& Good(bool sealed) {
  static const auto* const on = new UploadManifest(
      consilium::MakeTestUpload(Round(true), "bank-a", "\x0b").manifest);
  static const auto* const off = new UploadManifest(
      consilium::MakeTestUpload(Round(false), "bank-a", "\x0b").manifest);
  return sealed ? *on : *off;
}

int64_t Number(FuzzInput& input, int64_t old) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  switch (input.Byte() % 8) {
    case 0:
      return 0;
    case 1:
      return -1;
    case 2:
      return kMax;
    case 3:
      return kMin;
    case 4:
      return old == kMax ? old : old + 1;
    case 5:
      return old == kMin ? old : old - 1;
    case 6:
      return static_cast<int64_t>(input.Word(8));
    default:
      return static_cast<int64_t>(input.Word(2));
  }
}

void EditField(uint8_t field, FuzzInput& input, UploadManifest& m) {
  switch (field % 14) {
    case 0:
      m.round = Number(input, m.round);
      break;
    case 1:
      m.attempt = Number(input, m.attempt);
      break;
    case 2:
      m.upload_id[input.Byte() % m.upload_id.size()] ^= std::byte{1};
      break;
    case 3:
      m.layout_digest.bytes[input.Byte() % 32] ^= std::byte{1};
      break;
    case 4:
      m.base_version = Number(input, m.base_version);
      break;
    case 5:
      m.base_digest.bytes[input.Byte() % 32] ^= std::byte{1};
      break;
    case 6:
      m.coverage = std::string(input.Text(input.Byte() % 4));
      break;
    case 7:
      m.codec = static_cast<uint32_t>(Number(input, m.codec));
      break;
    case 8:
      m.elements = Number(input, m.elements);
      break;
    case 9:
      m.elements_per_frame = Number(input, m.elements_per_frame);
      break;
    case 10:
      m.payload_bytes = Number(input, m.payload_bytes);
      break;
    case 11:
      m.chunk_count = Number(input, m.chunk_count);
      break;
    case 12:
      m.sealed = !m.sealed;
      break;
    default:
      (input.Byte() % 2 == 0 ? m.ephemeral_public : m.wrapped_content_key) =
          std::string(input.Text(input.Byte()));
  }
}

// What CheckManifest promises, without its code.
void RequireFits(const UploadManifest& m, const RoundContext& round) {
  const auto& s = round.statement;
  Require(m.layout_digest == round.layout->id);
  Require(m.base_digest == s.base.digest && m.base_version == 3);
  Require(m.codec == 0 && m.elements_per_frame == 258048);
  Require(m.sealed == round.sealed());
  Require(m.coverage.size() == 1);
  const auto bits = static_cast<uint8_t>(m.coverage[0]);
  Require(bits != 0 && bits < 16);
  int64_t elements = 0;
  for (size_t i = 0; i < kElements.size(); ++i) {
    if ((bits >> i & 1) != 0) elements += kElements[i];
  }
  Require(m.elements == elements);
  Require(m.chunk_count == 1 + (elements + 258047) / 258048);
  Require(m.payload_bytes > 0 && m.payload_bytes <= kMaxUpdateBytes);
  // Chunks of that many bytes each can exist.
  Require(m.payload_bytes <= m.chunk_count * ((int64_t{1} << 20) - 16));
  Require(consilium::SpoolBytesFor(m) > m.payload_bytes);
}

void CheckBytes(std::string_view bytes, bool sealed) {
  const auto decoded = [&] {
    // Error messages have a size of their own.
    const consilium::AllocationLimit limit(bytes.size() + 1024);
    return UploadManifest::Decode(bytes);
  }();
  if (!decoded.ok()) {
    Require(!decoded.status().message().empty());
    return;
  }
  Require(decoded->Encode() == bytes);
  const auto refused = CheckManifest(*decoded, Round(sealed));
  if (!refused.has_value()) {
    RequireFits(*decoded, Round(sealed));
  } else {
    Require(!refused->message.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  const uint8_t control = input.Byte();
  const bool sealed = (control & 1) != 0;
  if ((control & 2) != 0) {
    CheckBytes(input.Rest(), sealed);
    return 0;
  }

  UploadManifest manifest = Good(sealed);
  Require(!CheckManifest(manifest, Round(sealed)).has_value());
  uint8_t field = 0;
  while (!input.empty() && (field = input.Byte()) != 0xff) {
    EditField(field, input, manifest);
  }
  std::string bytes = manifest.Encode();
  const auto again = UploadManifest::Decode(bytes);
  // Encode writes any string; Decode takes no key that is too long.
  Require(again.ok() && *again == manifest);
  while (!input.empty()) {
    const size_t place = input.Word(2) % (bytes.size() + 1);
    if (place == bytes.size()) {
      bytes.resize(input.Word(2) % (bytes.size() + 1));
      if (bytes.empty()) break;
    } else {
      bytes[place] = static_cast<char>(input.Byte());
    }
  }
  CheckBytes(bytes, sealed);
  return 0;
}
