; Prints a line by the BIOS, in text mode: each character is a store to the text window.
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    mov si, text
next:
    lodsb
    test al, al
    jz done
    mov ah, 0x0e                ; teletype output
    mov bx, 7
    int 0x10
    jmp next
done:
    cli
    hlt
text:
    db "Hello from a boot sector", 13, 10, 0

times 510 - ($ - $$) db 0
    dw 0xaa55
