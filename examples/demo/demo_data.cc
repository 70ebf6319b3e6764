#include "examples/demo/demo_data.h"

#include <cstdio>
#include <memory>
#include <string>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {

std::string CsvOf(const TableSlice& slice) {
  std::string text;
  for (const std::string& name : slice.column_names) CatInto(text, name, ",");
  text += "label\n";
  const size_t columns = static_cast<size_t>(slice.columns());
  for (size_t row = 0; row < slice.labels.size(); ++row) {
    for (size_t c = 0; c < columns; ++c) {
      char number[32];
      std::snprintf(number, sizeof number, "%.9g,",
                    static_cast<double>(slice.features[row * columns + c]));
      text += number;
    }
    CatInto(text, slice.labels[row], "\n");
  }
  return text;
}

absl::StatusOr<DemoStart> PrepareDemo(uint64_t seed) {
  DemoStart start;
  start.split = SplitBreastCancer(seed);
  PretrainOptions pretrain;
  pretrain.seed = seed;
  pretrain.columns = start.split.public_slice.column_names;
  CONSILIUM_ASSIGN_OR_RETURN(
      start.base,
      TableMoeTrainer::Pretrain(TableMoeShape(),
                                ViewOf(start.split.public_slice), pretrain));
  TrainerOptions cpu;
  cpu.device = TrainingDevice::kCpu;
  CONSILIUM_ASSIGN_OR_RETURN(
      start.trainer,
      TableMoeTrainer::Create(AsBytes(start.base.base_model), cpu));
  CONSILIUM_ASSIGN_OR_RETURN(start.layout,
                             Layout::Create(start.trainer->Slots()));
  return start;
}

absl::Status WriteHospital(const std::string& directory,
                           const PretrainedTable& base,
                           const HospitalSlices& hospital) {
  const auto write = [&](std::string_view name, const std::string& text) {
    return WriteFileAtomic(PosixFileSystem(), JoinPath(directory, name),
                           AsBytes(text));
  };
  CONSILIUM_RETURN_IF_ERROR(write("base_model.safetensors", base.base_model));
  CONSILIUM_RETURN_IF_ERROR(write("train.csv", CsvOf(hospital.train)));
  return write("validation.csv", CsvOf(hospital.validation));
}

absl::Status WriteDemoData(const std::string& directory, uint64_t seed) {
  FileSystem* const fs = PosixFileSystem();
  CONSILIUM_ASSIGN_OR_RETURN(const DemoStart start, PrepareDemo(seed));
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(directory));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, JoinPath(directory, "base.layout"),
                      AsBytes(start.layout.CanonicalText())));
  OpenOptions open;
  open.write = open.create = open.truncate = true;
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> file,
      fs->Open(JoinPath(directory, "version0.safetensors"), open));
  const ParameterSource zero = SourceOf(start.base.version_zero);
  CONSILIUM_RETURN_IF_ERROR(
      WriteVersionFile(
          start.layout, start.layout.ComputeId(Sha256HasherFactory()),
          [&zero](const TensorSlot& slot) { return zero(slot.name); },
          Sha256HasherFactory(), file.get())
          .status());
  CONSILIUM_RETURN_IF_ERROR(file->Close());
  for (const HospitalSlices& hospital : start.split.hospitals) {
    const std::string own = JoinPath(directory, hospital.name);
    CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(own));
    CONSILIUM_RETURN_IF_ERROR(WriteHospital(own, start.base, hospital));
  }
  return absl::OkStatus();
}

}  // namespace consilium
