// Any bytes as any message of the protocol: the first byte says which. What passes obeys the limits of
// messages.h.
#include "base/check.h"
#include "scheduler/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hivemetal;
  using namespace hivemetal::scheduler;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 11) {
    case 0:
      (void)parse<proto::OfferRequest>(bytes);
      break;
    case 1:
      (void)parse<proto::Offer>(bytes);
      break;
    case 2:
      if (const auto request = parse<proto::LeaseRequest>(bytes)) {
        HIVEMETAL_CHECK(request->worker() < request->workers());
        for (const auto& file : request->files())
          HIVEMETAL_CHECK(file.path() != ".." && file.path().find("../") != 0);
      }
      break;
    case 3:
      (void)parse<proto::LeaseReply>(bytes);
      break;
    case 4:
      (void)parse<proto::RenewRequest>(bytes);
      break;
    case 5:
      (void)parse<proto::RenewReply>(bytes);
      break;
    case 6:
      (void)parse<proto::StopRequest>(bytes);
      break;
    case 7:
      (void)parse<proto::LogRequest>(bytes);
      break;
    case 8:
      (void)parse<proto::LogReply>(bytes);
      break;
    case 9:
      (void)parse<proto::PingReply>(bytes);
      break;
    case 10:
      (void)is_safe_path(bytes);
      break;
  }
  return 0;
}
