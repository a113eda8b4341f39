// Job files of users and specs of peers: whatever is accepted survives the way to another node.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "job/job.h"

namespace job = hivemetal::job;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const auto& spec : {job::parse_job(input, "/nonexistent"), job::from_json_text(input)}) {
    if (!spec) {
      HIVEMETAL_CHECK(!spec.error().message.empty());
      continue;
    }
    const auto json = job::to_json(*spec);
    HIVEMETAL_CHECK(job::from_json(json).value() == *spec);
    HIVEMETAL_CHECK(job::from_json_text(json.dump()).value() == *spec);
  }
  return 0;
}
