// The messages of scheduler.proto, checked: whatever parse() returns is within the limits below.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "scheduler/scheduler.pb.h"

namespace hivemetal::scheduler {

inline constexpr const char* kOfferHandle = "HivemetalNode.rpc_offer";
inline constexpr const char* kLeaseHandle = "HivemetalNode.rpc_lease";
inline constexpr const char* kRenewHandle = "HivemetalNode.rpc_renew";
inline constexpr const char* kStopHandle = "HivemetalNode.rpc_stop";
inline constexpr const char* kLogHandle = "HivemetalNode.rpc_log";
inline constexpr const char* kPingHandle = "HivemetalNode.rpc_ping";

inline constexpr std::size_t kRunIdLengthMax = 48;  // [a-z0-9-]
inline constexpr std::size_t kJobBytesMax = 256 * 1024;
inline constexpr std::size_t kFilesMax = 256;
inline constexpr std::size_t kFilesBytesMax =
    3 * 1024 * 1024;  // a lease request must fit into one unary message
inline constexpr std::size_t kChainBytesMax = 64 * 1024;
inline constexpr std::uint32_t kWorkersMax = 4096;  // of one run
inline constexpr std::size_t kRenewalsMax = 256;    // leases in one message
inline constexpr std::size_t kWorkerEventBytesMax = 16 * 1024;
inline constexpr std::size_t kLogChunkBytesMax = 1024 * 1024;
inline constexpr std::size_t kTextBytesMax = 4096;  // reasons, details, names

// True for `[a-z0-9]([a-z0-9-]*[a-z0-9])?` within kRunIdLengthMax.
bool is_run_id(std::string_view text);

// True for a relative path without "." and ".." components, empty ones, NUL or backslash, up to 512 bytes.
bool is_safe_path(std::string_view path);

// Parses and checks a message of a peer. Fails with Invalid and says which field is wrong.
template <class Message>
Result<Message> parse(std::string_view bytes);

extern template Result<proto::OfferRequest> parse(std::string_view);
extern template Result<proto::Offer> parse(std::string_view);
extern template Result<proto::LeaseRequest> parse(std::string_view);
extern template Result<proto::LeaseReply> parse(std::string_view);
extern template Result<proto::RenewRequest> parse(std::string_view);
extern template Result<proto::RenewReply> parse(std::string_view);
extern template Result<proto::StopRequest> parse(std::string_view);
extern template Result<proto::StopReply> parse(std::string_view);
extern template Result<proto::LogRequest> parse(std::string_view);
extern template Result<proto::LogReply> parse(std::string_view);
extern template Result<proto::PingRequest> parse(std::string_view);
extern template Result<proto::PingReply> parse(std::string_view);

}  // namespace hivemetal::scheduler
