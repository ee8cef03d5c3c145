/* Tells who its process can be: set to become root, and given capabilities, by its file alone. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    int raw = socket(AF_INET, SOCK_RAW, 1) >= 0;
    setgid(0);
    setuid(0);
    printf("{\"user\": %d, \"group\": %d, \"raw socket\": %s}\n", geteuid(), getegid(), raw ? "true" : "false");
    return 0;
}
