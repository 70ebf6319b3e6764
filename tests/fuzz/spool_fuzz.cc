// Property: whatever bytes stand behind a spool's header, resuming it keeps a
// prefix of whole records that reads back the same, twice, and takes the rest
// of the upload; and whatever bytes stand in place of the header, opening
// answers with a status.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "coordinator/store/spool.h"
#include "coordinator/store/spool_format.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/resume_spool.h"

namespace {

using consilium::AsBytes;
using consilium::AsChars;

void Require(bool condition) {
  if (!condition) std::abort();
}

// A check that refuses some bodies, by their content.
absl::Status Check(uint64_t, uint32_t, std::span<const std::byte> body) {
  return body[0] == std::byte{0xbd} ? absl::DataLossError("refused")
                                    : absl::OkStatus();
}

// Drops the first byte and returns it; 0 when there is none.
uint8_t Take(std::span<const std::byte>& input) {
  if (input.empty()) return 0;
  const auto byte = std::to_integer<uint8_t>(input[0]);
  input = input.subspan(1);
  return byte;
}

// Fuzz grammar: records [length][vector][index][length bytes], and, when the
// first byte is odd, raw bytes.
std::string RecordArea(std::span<const std::byte> input) {
  if (Take(input) % 2 == 1) return std::string(AsChars(input));
  std::string out;
  while (!input.empty()) {
    const uint32_t length = Take(input);
    const uint32_t vector = Take(input) % 4;
    const uint64_t index = Take(input);
    const auto head = consilium::EncodeRecordHead({length, vector, index});
    out += AsChars(head);
    const auto body = input.first(std::min<size_t>(length, input.size()));
    out += AsChars(body);
    input = input.subspan(body.size());
  }
  return out;
}

std::vector<std::string> ReadAll(consilium::SpoolDir& spools,
                                 const std::string& path) {
  const auto reader = spools.OpenReader(path);
  Require(reader.ok());
  std::vector<std::string> out;
  std::vector<std::byte> buffer((*reader)->header().max_record_bytes);
  for (uint64_t i = 0; i < (*reader)->records(); ++i) {
    const auto record = (*reader)->ReadRecord(i, buffer);
    Require(record.ok() && record->bytes == (*reader)->record_bytes(i));
    out.emplace_back(AsChars(std::span(buffer).first(record->bytes)));
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  consilium::FaultFileSystem fs;
  consilium::SpoolDir spools(&fs, "/d", nullptr);
  Require(spools.Prepare().ok());

  consilium::SpoolHeader header;
  header.sealed = false;
  header.total_chunks = 8;
  header.payload_bytes = 8;
  header.max_record_bytes = 100;
  header.vectors = 3;
  header.manifest = "m";
  const consilium::SpoolKey key{1, 1, "a", "b"};
  const std::string path = consilium::SpoolDir::PathOf(key);
  Require(spools.Create(key, header, nullptr).ok());
  {
    const auto file = fs.Open("/d/" + path, {.write = true});
    Require(file.ok());
    Require((*file)->WriteAt(4096, AsBytes(RecordArea(input))).ok());
  }

  uint64_t kept = 0;
  {
    const auto writer = ResumeSpool(spools, path, Check, nullptr);
    Require(writer.ok());
    kept = (*writer)->next_index();
    Require(kept <= header.total_chunks);
  }
  const std::vector<std::string> first = ReadAll(spools, path);
  Require(first.size() == kept);
  {
    const auto writer = ResumeSpool(spools, path, Check, nullptr);
    Require(writer.ok() && (*writer)->next_index() == kept);
    for (uint64_t i = kept; i < header.total_chunks; ++i) {
      Require((*writer)->Append(i, AsBytes("more")).ok());
    }
    Require((*writer)->Flush().ok() && (*writer)->complete());
  }
  const std::vector<std::string> all = ReadAll(spools, path);
  Require(all.size() == header.total_chunks);
  for (size_t i = 0; i < all.size(); ++i) {
    Require(all[i] == (i < kept ? first[i] : "more"));
  }

  // The same bytes as a header.
  Require(consilium::WriteFileAtomic(&fs, "/d/spool/1-1/x.spool", input).ok());
  Require(!spools.OpenReader("spool/1-1/x.spool").ok());
  return 0;
}
