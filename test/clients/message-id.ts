/** The Message.id that a message will have whose messageId the client chose: an optimistic message has it at once. */
export function optimisticId(sessionId: string, messageId: string): string {
  const bytes = new TextEncoder().encode(`Message:${sessionId}:${messageId}`);
  return btoa(String.fromCharCode(...bytes));
}
