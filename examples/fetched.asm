; A kernel for a boot from the network: it prints the sum of its own bytes.
;
;     nasm -f bin -o kernel examples/fetched.asm
;     { cat kernel; head -c 1M /dev/urandom; } | head -c 1M > fetched
;
; It is a multiboot image, loaded at 1 MiB with whatever is appended, up to 1 MiB in all. What a
; network card brought by DMA is added up by the processor: a Fletcher checksum of 32-bit words,
; which one byte that is lost or out of place changes.

SIZE equ 1 << 20
START equ 0x100000
STACK equ 0x7c00                ; in RAM with a BIOS and without
SCREEN equ 0xb8000
MAGIC equ 0x1badb002
FLAGS equ 1 << 16               ; the addresses are below

bits 32
org START
    dd MAGIC, FLAGS, -(MAGIC + FLAGS)
    dd START, START, START + SIZE, 0, begin

begin:
    cli
    cld
    mov esp, STACK
    mov esi, START
    mov ecx, SIZE / 4
    xor eax, eax                ; the sum of the words,
    xor ebx, ebx                ; and that of these sums
.next:
    add eax, [esi]
    add ebx, eax
    add esi, 4
    loop .next
    push eax
    mov edi, SCREEN
    mov esi, sum
    call print
    mov eax, ebx
    call number
    pop eax
    call number
    hlt

print:                          ; the text at esi
    mov ah, 7
.next:
    lodsb
    test al, al
    jz .done
    stosw
    jmp .next
.done:
    ret

number:                         ; eax in hexadecimal
    mov ecx, 8
.next:
    rol eax, 4
    push eax
    and eax, 15
    mov al, [digits + eax]
    mov ah, 7
    stosw
    pop eax
    loop .next
    ret

sum: db "The sum is ", 0
digits: db "0123456789abcdef"
