/** Express 5 brings no types; these are of what the baseline uses. */
declare module "express" {
  import type { IncomingMessage, ServerResponse } from "node:http";
  interface Request extends IncomingMessage {
    readonly body: unknown;
  }
  interface Response extends ServerResponse {
    json(body: unknown): void;
  }
  type Handler = (request: Request, response: Response) => Promise<void>;
  interface Application {
    use(middleware: unknown): void;
    post(path: string, handler: Handler): void;
    listen(port: number, host: string): unknown;
  }
  function express(): Application;
  namespace express {
    function json(): unknown;
  }
  export default express;
}
