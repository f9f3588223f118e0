#pragma once
// The answer to BLOCK_STATUS: a chunk of extents for each context that was chosen.
//
// Threads: those of its session.

#include "blockdev/device.h"
#include "blockdev/nbd/meta_context.h"
#include "blockdev/nbd/reply_buffer.h"
#include "blockdev/nbd/request.h"

namespace uzram::nbd {

// Extents of one state are one extent; what does not fit the reply is left for the client to ask again. At least one
// context was chosen.
void reply_block_status(ReplyBuffer& replies, const Device& device, const Request& request, const Contexts& contexts);

}  // namespace uzram::nbd
