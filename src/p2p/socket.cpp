#include "p2p/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <utility>

#include <boost/asio/read.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>

#include "base/uvarint.h"
#include "wire/framing.h"

namespace hivemetal::p2p {

namespace {

Error error_of(const boost::system::error_code& code) {
  if (code == asio::error::operation_aborted) return {ErrorCode::Cancelled, "cancelled"};
  if (code == asio::error::eof) return {ErrorCode::Unavailable, "the other side closed the connection"};
  return {ErrorCode::Unavailable, code.message()};
}

}  // namespace

void close_on_exec(int descriptor) { ::fcntl(descriptor, F_SETFD, FD_CLOEXEC); }

asio::awaitable<Result<std::unique_ptr<Socket>>> connect_socket(std::string path) {
  auto socket = std::make_unique<Socket>(co_await asio::this_coro::executor);
  boost::system::error_code error;
  socket->open(asio::local::stream_protocol(), error);
  if (error) co_return error_of(error).within("open a unix socket");
  close_on_exec(socket->native_handle());
  std::tie(error) = co_await socket->async_connect(asio::local::stream_protocol::endpoint(path), use_result);
  if (error) co_return error_of(error).within("connect to " + path);
  co_return socket;
}

asio::awaitable<Result<Bytes>> read_message(Socket& socket, std::size_t bytes_max) {
  Bytes length;
  std::optional<std::uint64_t> size;
  while (!size) {
    char byte = 0;
    const auto [error, count] = co_await asio::async_read(socket, asio::buffer(&byte, 1), use_result);
    if (error) co_return error_of(error);
    length += byte;
    std::string_view rest = length;
    const auto taken = take_uvarint(rest);
    if (!taken) co_return taken.error().within("length of a message");
    size = *taken;
  }
  if (*size > bytes_max) {
    co_return Error{ErrorCode::Invalid,
                    fmt::format("a message of {} bytes, at most {} are accepted", *size, bytes_max)};
  }
  Bytes message(*size, '\0');
  const auto [error, count] = co_await asio::async_read(socket, asio::buffer(message), use_result);
  if (error) co_return error_of(error);
  co_return message;
}

asio::awaitable<Result<void>> write_message(Socket& socket, Bytes message) {
  Bytes framed;
  wire::append_delimited(framed, message);
  const auto [error, count] = co_await asio::async_write(socket, asio::buffer(framed), use_result);
  if (error) co_return error_of(error);
  co_return Result<void>();
}

SocketStream::SocketStream(std::unique_ptr<Socket> socket, PeerId peer, std::shared_ptr<NetworkStats> stats,
                           bool incoming)
    : socket_(std::move(socket)), peer_(std::move(peer)), stats_(std::move(stats)), incoming_(incoming) {
  ++(incoming_ ? stats_->streams_in : stats_->streams);
  if (incoming_) ++stats_->streams_in_open;
}

SocketStream::~SocketStream() {
  if (incoming_) --stats_->streams_in_open;
}

asio::awaitable<Result<std::size_t>> SocketStream::read_some(std::span<char> buffer) {
  if (!socket_->is_open()) co_return 0;
  const auto stats = stats_;
  const auto [error, count] =
      co_await socket_->async_read_some(asio::buffer(buffer.data(), buffer.size()), use_result);
  stats->bytes_in += count;
  if (error == asio::error::eof) co_return 0;
  if (error) co_return error_of(error);
  co_return count;
}

asio::awaitable<Result<void>> SocketStream::write(std::string_view bytes) {
  if (!socket_->is_open()) co_return Error{ErrorCode::Invalid, "the stream is closed"};
  const auto stats = stats_;
  const auto [error, count] = co_await asio::async_write(*socket_, asio::buffer(bytes), use_result);
  stats->bytes_out += count;
  if (error) co_return error_of(error);
  co_return Result<void>();
}

void SocketStream::close() {
  boost::system::error_code ignored;
  socket_->close(ignored);
}

}  // namespace hivemetal::p2p
