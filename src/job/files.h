// The job file and the files it names, on the disk of the one who submits it.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::job {

// True for a relative path of plain components: no "..", no ".", no empty one, no control characters.
bool is_inside(std::string_view path);

// Where the file `path` of the job in `folder` is. Fails with Invalid if there is none, if it is no regular
// file, or if a link leads out of the folder.
Result<std::filesystem::path> find_file(const std::filesystem::path& folder, std::string_view path);

// The text of a job file. Its size is checked before it is read.
Result<Bytes> read_job_file(const std::filesystem::path& file);

Error too_large(std::string_view file_name, std::uint64_t bytes);

}  // namespace hivemetal::job
