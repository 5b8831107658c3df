/* A client and a server inside containers, built against glibc and against musl, statically.
 *
 *   client udp PORT          answers every datagram with its own host name and the sender's address
 *   client poll NAME PORT    ten times a second: resolve the name, connect, GET /who; one line each
 *   client once NAME PORT    the same with a resolver of its own, which reads /etc/resolv.conf once
 *   client query NAME COUNT  so many queries of that resolver, one after the other; one line at the end
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in server;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void read_server(void) {
  char line[256], text[64];
  FILE *file = fopen("/etc/resolv.conf", "r");
  server.sin_family = AF_INET;
  server.sin_port = htons(53);
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "nameserver %63s", text) == 1 && inet_pton(AF_INET, text, &server.sin_addr) == 1) {
      fclose(file);
      return;
    }
  printf("no IPv4 name server in /etc/resolv.conf\n");
  exit(1);
}

/* An A query, RFC 1035: the number of answers, the first of them; -1 when nothing usable comes within two seconds. */
static int resolve(const char *name, struct in_addr *address) {
  static unsigned short id;
  unsigned char query[300] = {0}, answer[2048];
  int length = 12, socket_, got, at, count, found = 0;
  struct timeval wait = {2, 0};
  id++;
  query[0] = id >> 8, query[1] = id & 255, query[2] = 1, query[5] = 1;
  while (*name) {
    int label = strcspn(name, ".");
    query[length++] = label;
    memcpy(query + length, name, label);
    length += label;
    name += label + (name[label] == '.');
  }
  query[length++] = 0, query[length + 1] = 1, query[length + 3] = 1, length += 4;
  socket_ = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  connect(socket_, (struct sockaddr *)&server, sizeof server);
  send(socket_, query, length, 0);
  do
    got = recv(socket_, answer, sizeof answer, 0);
  while (got >= 12 && (answer[0] != query[0] || answer[1] != query[1]));
  close(socket_);
  if (got < length || (answer[3] & 15) != 0) return -1;
  count = answer[6] << 8 | answer[7];
  for (at = length; count-- > 0 && at + 12 <= got;) {
    if ((answer[at] & 0xc0) == 0xc0) at += 2;
    else {
      while (at < got && answer[at]) at += answer[at] + 1;
      at++;
    }
    int type = answer[at] << 8 | answer[at + 1], size = answer[at + 8] << 8 | answer[at + 9];
    if (type == 1 && size == 4 && found++ == 0) memcpy(address, answer + at + 10, 4);
    at += 10 + size;
  }
  return found;
}

static const char *ask(struct sockaddr *to, socklen_t size) {
  static char body[1024];
  struct timeval wait = {5, 0};
  const char *get = "GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  int got, all = 0, socket_ = socket(to->sa_family, SOCK_STREAM, 0);
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  if (connect(socket_, to, size) != 0) {
    snprintf(body, sizeof body, "failed to connect: %s", strerror(errno));
    close(socket_);
    return body;
  }
  send(socket_, get, strlen(get), MSG_NOSIGNAL);
  while ((got = recv(socket_, body + all, sizeof body - 1 - all, 0)) > 0) all += got;
  body[all] = 0;
  close(socket_);
  char *text = strstr(body, "\r\n\r\n");
  if (strncmp(body, "HTTP/1.1 200", 12) != 0 || !text) return "failed to be answered";
  text[strcspn(text + 4, "\n") + 4] = 0;
  return text + 4;
}

static void poll_name(const char *name, const char *port, int own_resolver) {
  for (;; usleep(100000)) {
    char shown[64] = "";
    const char *said;
    if (own_resolver) {
      struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
      if (resolve(name, &to.sin_addr) < 1) {
        printf("failed to resolve\n");
        fflush(stdout);
        continue;
      }
      inet_ntop(AF_INET, &to.sin_addr, shown, sizeof shown);
      said = ask((struct sockaddr *)&to, sizeof to);
    } else {
      struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found;
      int error = getaddrinfo(name, port, &hints, &found);
      if (error) {
        printf("failed to resolve: %s\n", gai_strerror(error));
        fflush(stdout);
        continue;
      }
      inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, shown, sizeof shown);
      said = ask(found->ai_addr, found->ai_addrlen);
      freeaddrinfo(found);
    }
    printf("%s: %s\n", shown, said);
    fflush(stdout);
  }
}

static void query(const char *name, int count) {
  double slowest = 0;
  int failed = 0;
  struct in_addr address;
  for (int i = 0; i < count; i++) {
    double begun = now(), took;
    if (resolve(name, &address) < 1) failed++;
    took = now() - begun;
    if (took > slowest) slowest = took;
  }
  printf("%d asked, %d failed, slowest %.1f ms\n", count, failed, slowest * 1000);
}

static void udp(const char *port) {
  struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(port))}, peer;
  char text[2048], shown[64], name[256];
  int socket_ = socket(AF_INET6, SOCK_DGRAM, 0), both = 0;
  if (socket_ >= 0) {
    setsockopt(socket_, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
    if (bind(socket_, (struct sockaddr *)&own, sizeof own) != 0) exit(1);
  }
  gethostname(name, sizeof name);
  printf("listens\n");
  fflush(stdout);
  for (;;) {
    socklen_t size = sizeof peer;
    int got = recvfrom(socket_, text, sizeof text - 1, 0, (struct sockaddr *)&peer, &size);
    if (got < 0) continue;
    inet_ntop(AF_INET6, &peer.sin6_addr, shown, sizeof shown);
    const char *v4 = strncmp(shown, "::ffff:", 7) == 0 ? shown + 7 : shown;
    text[got] = 0;
    printf("heard from %s\n", v4);
    fflush(stdout);
    got = snprintf(text, sizeof text, "%s heard %s", name, v4);
    sendto(socket_, text, got, 0, (struct sockaddr *)&peer, size);
  }
}

int main(int count, char **args) {
  if (count == 3 && !strcmp(args[1], "udp")) udp(args[2]);
  if (count == 4 && !strcmp(args[1], "poll")) poll_name(args[2], args[3], 0);
  if (count != 4) return 2;
  read_server();
  if (!strcmp(args[1], "once")) poll_name(args[2], args[3], 1);
  if (!strcmp(args[1], "query")) query(args[2], atoi(args[3]));
  return 0;
}
