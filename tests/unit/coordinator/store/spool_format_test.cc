#include "coordinator/store/spool_format.h"

#include <limits>

#include "consilium/base/bytes.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class SpoolFormatTest : public ::testing::Test {
 protected:
  static SpoolHeader Full() {
    SpoolHeader header;
    header.sealed = true;
    header.masked = true;
    header.total_chunks = 1000;
    header.payload_bytes = 123'456'789;
    header.max_record_bytes = 1 << 20;
    header.elements_per_frame = 258048;
    header.vectors = 65;
    header.manifest = std::string("canonical\0manifest", 18);
    header.wrapped_key = std::string(80, '\xee');
    header.signature = std::string(64, '\x11');
    return header;
  }

  std::unique_ptr<File> Write(std::span<const std::byte> bytes) {
    EXPECT_OK(WriteFileAtomic(&fs_, "/s", bytes));
    auto file = fs_.Open("/s", {.write = true});
    EXPECT_OK(file.status());
    return *std::move(file);
  }

  FaultFileSystem fs_;
};

TEST_F(SpoolFormatTest, RoundTrip) {
  const auto file = Write(EncodeSpoolHeader(Full()));
  ASSERT_OK_AND_ASSIGN(const auto decoded, ReadSpoolHeader(file.get()));
  EXPECT_EQ(decoded.header, Full());
  EXPECT_EQ(decoded.bytes, 4096);
}

// The offsets that FORMAT.md promises.
TEST_F(SpoolFormatTest, Offsets) {
  const std::vector<std::byte> bytes = EncodeSpoolHeader(Full());
  ASSERT_EQ(bytes.size(), 4096u);
  const std::byte* p = bytes.data();
  EXPECT_EQ(AsChars(std::span(bytes).first(4)), "CSPL");
  EXPECT_EQ(LoadLittleEndian<uint16_t>(p + 4), 1);
  EXPECT_EQ(LoadLittleEndian<uint16_t>(p + 6), 3);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(p + 8), 4096u);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(p + 12), 1u << 20);
  EXPECT_EQ(LoadLittleEndian<uint64_t>(p + 16), 1000u);
  EXPECT_EQ(LoadLittleEndian<uint64_t>(p + 24), 123'456'789u);
  EXPECT_EQ(LoadLittleEndian<uint64_t>(p + 32), 258048u);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(p + 40), 65u);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(p + 44), 18u);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(p + 48), 80u);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(p + 52), 64u);
  EXPECT_EQ(LoadLittleEndian<uint64_t>(p + 56), 0u);
  EXPECT_EQ(AsChars(std::span(bytes).subspan(96, 18)), Full().manifest);

  const auto head = EncodeRecordHead({5, 6, 7});
  EXPECT_EQ(LoadLittleEndian<uint32_t>(head.data()), 5u);
  EXPECT_EQ(LoadLittleEndian<uint32_t>(head.data() + 4), 6u);
  EXPECT_EQ(LoadLittleEndian<uint64_t>(head.data() + 8), 7u);
}

TEST_F(SpoolFormatTest, ALargeManifestMovesTheFirstRecord) {
  SpoolHeader header = Full();
  header.manifest = std::string(100'000, 'm');
  const auto file = Write(EncodeSpoolHeader(header));
  ASSERT_OK_AND_ASSIGN(const auto decoded, ReadSpoolHeader(file.get()));
  EXPECT_EQ(decoded.bytes, 102'400);
  EXPECT_EQ(decoded.header.manifest, header.manifest);
}

TEST_F(SpoolFormatTest, EveryFlippedBitIsSeen) {
  SpoolHeader header = Full();
  ASSERT_OK(WriteFileAtomic(&fs_, "/s", EncodeSpoolHeader(header)));
  ASSERT_OK_AND_ASSIGN(const auto file, fs_.Open("/s", {}));
  for (int64_t at = 0; at < 4096; at += at < 300 ? 1 : 97) {
    ASSERT_OK(fs_.Corrupt("/s", at, 0x40));
    const absl::Status status = ReadSpoolHeader(file.get()).status();
    EXPECT_TRUE(absl::IsDataLoss(status) || absl::IsUnimplemented(status))
        << at << " " << status;
    ASSERT_OK(fs_.Corrupt("/s", at, 0x40));
  }
  EXPECT_OK(ReadSpoolHeader(file.get()).status());
}

TEST_F(SpoolFormatTest, ACutHeaderIsSeen) {
  for (const int64_t size : {0, 3, 95, 96, 4095}) {
    const auto file = Write(EncodeSpoolHeader(Full()));
    ASSERT_OK(file->Truncate(size));
    EXPECT_THAT(
        ReadSpoolHeader(file.get()).status(),
        StatusIs(absl::StatusCode::kDataLoss, HasSubstr("upload again")))
        << size;
  }
}

TEST_F(SpoolFormatTest, LimitsAreNamed) {
  const auto check = [](auto change) {
    SpoolHeader header = Full();
    change(header);
    return CheckSpoolHeader(header);
  };
  EXPECT_OK(check([](SpoolHeader&) {}));
  const auto refused = [&](const char* what, auto change) {
    EXPECT_THAT(check(change),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused("total_chunks 0", [](SpoolHeader& h) { h.total_chunks = 0; });
  refused("total_chunks", [](SpoolHeader& h) {
    h.total_chunks = std::numeric_limits<uint64_t>::max();
  });
  refused("max_record_bytes", [](SpoolHeader& h) { h.max_record_bytes = 0; });
  refused("max_record_bytes",
          [](SpoolHeader& h) { h.max_record_bytes = (4u << 20) + 1; });
  refused("does not fit", [](SpoolHeader& h) {
    h.payload_bytes = std::numeric_limits<uint64_t>::max();
  });
  refused("vectors", [](SpoolHeader& h) { h.vectors = 0; });
  refused("manifest", [](SpoolHeader& h) { h.manifest.clear(); });
  refused("manifest",
          [](SpoolHeader& h) { h.manifest.resize((16u << 20) + 1); });
  refused("wrapped key", [](SpoolHeader& h) { h.wrapped_key.resize(4097); });
  refused("signature", [](SpoolHeader& h) { h.signature.resize(4097); });
  refused("wrapped key", [](SpoolHeader& h) { h.wrapped_key.clear(); });
  refused("wrapped key", [](SpoolHeader& h) { h.sealed = false; });
}

TEST_F(SpoolFormatTest, FileBytesCountsHeadsAndTags) {
  SpoolHeader header = Full();
  EXPECT_EQ(SpoolFileBytes(header), 4096 + 123'456'789 + 1000 * 32);
  header.sealed = false;
  header.wrapped_key.clear();
  EXPECT_EQ(SpoolFileBytes(header), 4096 + 123'456'789 + 1000 * 16);
}

}  // namespace
}  // namespace consilium
