/* The pipe channel: frames of disco/channel.h over two descriptors, pipes or one stream socket.
 *
 * It reads exactly the bytes of the frame it returns, never ahead: whoever takes the descriptor over finds the next
 * frame's first byte. A frame's size is checked before it is believed, and memory grows with the bytes that really
 * come. Both directions are independent: one may have ended while the other still delivers. */
#ifndef DSC_CHANNEL_PIPE_H
#define DSC_CHANNEL_PIPE_H

#include "disco/channel.h"

/* The body of disco_pipe_channel_create(), which tells the contract. The descriptors may be equal. */
disco_status dsc_pipe_channel_create(int read_fd, int write_fd, disco_channel **ret_channel);

/* The descriptor that `channel` reads, still its own; -1 when it is no pipe channel. */
int dsc_pipe_channel_read_fd(const disco_channel *channel);

#endif
