/** A result had nowhere to go: its reader left. No failure of anybody's, and nothing for the log. */
export class SocketClosing extends Error {
  override readonly name = "SocketClosing";

  constructor() {
    super("The socket is closing.");
  }
}
